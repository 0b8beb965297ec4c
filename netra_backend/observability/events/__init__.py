"""Stored events: what happened, on the one log, in the transaction that made it so."""
