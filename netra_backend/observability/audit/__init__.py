"""The audit trail: entries in the transaction of their effect, a provable log of each tenant, checkpoints that a stranger can verify."""
