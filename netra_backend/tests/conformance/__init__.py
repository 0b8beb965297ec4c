"""The storage contract: one suite that runs over every engine."""
