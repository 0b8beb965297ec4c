-- Retention deletes finished messages, their deliveries and attempts, and lines that nobody uses: tenant by tenant, in each
-- tenant's own scope, so that the policies hold here too.
grant delete on netra_message, netra_delivery, netra_attempt, netra_line to netra_run;
