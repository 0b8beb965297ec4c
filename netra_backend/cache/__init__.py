"""The cache: no stale read beyond the bound, whatever breaks.

After an invalidation commits, no older value is served: at once in the process that wrote, within one lease (`cache_lease`, 1 s) in
every other one, under any partition, kill or delay. A cascade reaches every dependent, in the graph's order.

The protocol:

1. *Commit.* `invalidate` puts the changed names on the log's outbox, in the caller's transaction. From then on this process takes them
   for pending: what is made from them is neither served nor kept until the event has been applied here, or was rolled back (C6, C10).
2. *Sequence.* The log's leader gives each row of the stream the next number. Nobody waits for it:
3. *Look.* Each process looks at log and outbox in one snapshot, four times per lease. What was committed before the look began
   is in its rows, or still waits in its outbox; the latter is pending here as well. So a whole look that began at `t` renews the lease
   to `t + bound`: no clock of another process and no leader is asked (C5).
4. *Apply.* The next number or a flush (C3); another history (a restore, a failover) is a flush (C4). The whole closure of dependents
   is dropped at once, and each name's last number remembered (C7); what asked for it is made anew behind what it is made from (C8).
5. *Read.* A hit needs a valid lease and nothing pending. Without a lease both tiers are passed by.
6. *Load.* The position is noted before anything is read; nothing is loaded inside a transaction that is held open (C2).
7. *Fill.* Refused where anything that the value was made from has a later number than that position, or might have had one that is
   forgotten (the floor); the caller has the value all the same (C1).
8. *Join.* Whoever asks while a load is under way is given its value only if nothing that it was made from was touched since it began.
   That only one loads is a saving and no part of the safety (C9).

The guards stand in `node.py`, without I/O; the explorer of the tests visits every order of steps in small worlds, and finds a stale read
for each guard that is taken away. docs/cache.md tells the use, docs/decisions/0012 why looks took the place of the leader's beats.

Sources: Facebook's leases (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013) for the slow reader's race; the outbox as a log with
one sequencer from `storage/log.py`. Rejected: publish and subscribe, which forgets whoever was cut off; TTL as the only bound; polling the
outbox by number, which loses what commits late.
"""

from __future__ import annotations

from .errors import CycleRefused, LoadTimeout, NoLoad, NotCacheable
from .model import Loaded

__all__ = ["CycleRefused", "LoadTimeout", "Loaded", "NoLoad", "NotCacheable"]
