"""Every command and what it leaves in the audit trail: the actions of its entries, or the reason why there are none.

A test compares this table with the commands that exist, so a new command is red until somebody has decided.
"""

from __future__ import annotations

from typing import Final

AUDITED: Final[dict[str, tuple[str, ...]]] = {
    "tenant create": ("tenant.create",),
    "key create": ("api_key.create",),
    "key revoke": ("api_key.revoke",),
    "webhooks endpoint add": ("endpoint.create", "endpoint.secret.create"),
    "cache invalidate": ("cache.invalidate",),
    "webhooks endpoint rotate": ("endpoint.secret.create", "endpoint.secret.expire"),
    "webhooks endpoint secret": ("endpoint.secret.read",),
    "webhooks portal": ("api_key.create",),
    "webhooks resend": ("delivery.resend",),
    "webhooks recover": ("task.recover",),
    "webhooks replay": ("task.bulk_replay", "task.replay_missing"),
    "webhooks dead": ("task.redrive",),
    "webhooks cancel": ("delivery.cancel",),
    "webhooks cancel-backlog": ("task.cancel_backlog",),
    "webhooks expunge": ("message.expunge", "delivery.cancel", "attempt.expunge"),
    "webhooks task cancel": ("task.cancel",),
    "batch run": ("run.start", "run.resume"),
    "batch pause": ("run.pause",),
    "batch resume": ("run.resume",),
    "batch cancel": ("run.cancel",),
    "batch rerun": ("run.rerun",),
    "oauth client set": ("oauth_client.set",),
    "oauth import": ("connection.import",),
    "oauth connect": ("connection.connect",),
    "oauth token": ("connection.token.read",),
    "oauth revoke": ("connection.revoke",),
}
"""Command -> what its entries are called; the actor is `cli:<account>`, or the key that a server was asked with."""

NOT_AUDITED: Final[dict[str, str]] = {
    "serve": "starting a process decides nothing; the first operator's key that it makes is audited (api_key.create)",
    "worker": "starting a process decides nothing",
    "migrate": "netra_migration keeps what was applied, when, and the checksum; the audit tables may not exist before it",
    "backup": "reads only; no secret can be read from the file without the root keys, which are not in it",
    "restore": "puts another trail in the place of the one that would say so; netra_meta keeps the new epoch and when",
    "doctor": "reads only",
    "failpoints": "reads only",
    "tenant list": "reads only",
    "cache stats": "reads only",
    "cache graph": "reads only",
    "cache probe": "calls the program's own loaders, which read",
    "key list": "reads only, and no secret",
    "oauth validate": "touches no installation",
    "oauth providers": "touches no installation",
    "oauth client list": "reads only, and no secret",
    "oauth list": "reads only, and no secret",
    "oauth refresh": "what it may change of the connection's state has its own entry",
    "webhooks send": "a message is its own record: it is kept with its time, and every attempt of it is appended",
    "webhooks list": "reads only",
    "webhooks show": "reads only",
    "webhooks task list": "reads only",
    "webhooks task show": "reads only",
    "webhooks tail": "reads only",
    "webhooks listen": "touches no installation",
    "webhooks endpoint list": "reads only, and no secret",
    "batch work": "works on what somebody has started, and decides nothing",
    "batch list": "reads only",
    "batch show": "reads only",
    "batch watch": "reads only",
    "batch failures": "reads only",
    "demo": "works on an installation of its own, through a server that audits",
}
"""Command -> why it leaves no entry."""
