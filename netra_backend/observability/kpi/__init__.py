"""KPIs in business units: objects that were promised, what became of them, and why.

A KPI is declared over stored events joined by a key: `total` is the event that makes a promise, `good` the one that keeps it, within a
time. So the figure can name the objects and the money behind it.

Protocol. One process, under a lease, follows the log: it reads the events behind its cursor, joins them to objects, judges each
object, adds the differences to figures by the minute, and moves the cursor, all in one transaction. So an event counts once, whoever
is killed at whatever moment (K1). An object keeps the earliest time of each kind of event about it, and its result is a function of
those and of now: the order of events, repetitions and late ones make no difference (K2). When time alone changes a result (a deadline
passes: absence counts) stands in an index, so that nothing is scanned for it; a clock that steps back takes such a result back (K3).
What is late moves between results and never vanishes (K4).

Rejected: counting events as they pass. A count cannot name what is missing, and a repeated or late event makes it wrong for ever.
"""
