"""Metrics: counters, gauges and histograms of all processes of an installation, in Prometheus' text format.

A process counts in memory (`registry.py`): a few hundred nanoseconds. What has changed is written every few seconds to a row for each
series of its node (`aggregate.py`), so any server shows the sum over all processes, those without an HTTP port and those that have ended
included; there are no files per pid. A node that is gone is folded into one row for each series, so a counter never goes down.

Rejected: prometheus-client's multi-process mode, whose files per pid grow with every restart and live on one host.
"""
