"""The dashboard: pages over the five parts, for the operator and, under a tenant's key or link, for one tenant.

Pages only read. What is done from them goes through the REST API, sent by `pages/netra.js` with the session's token, so that an action
has one implementation, one check of rights, one audit entry. Every page is whole without script; with it, the same address answers
as a stream of what has changed (`routing.py`). Drawings are SVG made here (`charts.py`).

The server does not know these pages: `netra serve` hands `site.mount` to it. Who is let in, what a browser's session is, and the headers of
every page are the server's (`server/sessions.py`, `server/gate.py`).
"""
