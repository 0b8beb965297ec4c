-- Retention deletes finished runs with their partitions and dead letters: tenant by tenant, in each tenant's own scope, so that
-- the policies hold here too. A run goes after the reruns of it, which are found by their parent.
create index netra_job_run_parent on netra_job_run (tenant, parent) where parent is not null;
