"""Traces across all parts, from the store alone.

Every row that crosses time carries its trace (W3C Trace Context): a message, and through it its deliveries; an attempt, a run, an
audit entry. What has no row that could carry one (a request, an invalidation, a refresh, a chunk, a program's own span) has a row of
`netra_span`.
A worker goes on as a child of what it works on where that is a single item, of the same tenant, under 60 s old; else it begins a new
trace with a link (`kernel/spans.py`). So a trace stays small enough to read, and no retry of tomorrow makes it last a day.

A trace is put together when somebody asks (`assembly.py`): what carries its id, what links to it, in the order of time.
"""
