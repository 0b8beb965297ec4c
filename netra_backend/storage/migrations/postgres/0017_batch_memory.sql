-- What a partition has learned of memory, and what whoever looks is told: about how many bytes an item holds, how many owners have died
-- since the last commit (two, and the next chunk is worked on in quarantine), how often a chunk out of quarantine began to be written
-- since then, the memory level and the executor at the last commit.
alter table netra_job_partition
  add column crashes bigint,
  add column writer_tries bigint,
  add column item_bytes bigint,
  add column memory_level bigint,
  add column executor text collate "C";
