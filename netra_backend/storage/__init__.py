"""The one substrate: transactions that carry a scope, one SQL text for every engine, leases, outbox, log, secrets."""
