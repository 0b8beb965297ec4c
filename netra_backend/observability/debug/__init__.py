"""Debug sessions: a time-boxed, audited look into one tenant's production, never into another's. See `docs/debug.md`.

`hub.py` tells the protocol, `service.py` is what is called, `redaction.py` what leaves memory, `logpoints/` how code is watched.
"""
