-- What a partition has learned of memory, and what whoever looks is told: about how many bytes an item holds, how many owners have died
-- since the last commit (two, and the next chunk is worked on in quarantine), the memory level and the executor at the last commit.
alter table netra_job_partition add column crashes integer;
alter table netra_job_partition add column writer_tries integer;
alter table netra_job_partition add column item_bytes integer;
alter table netra_job_partition add column memory_level integer;
alter table netra_job_partition add column executor text;
