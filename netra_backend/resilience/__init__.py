"""Policies that keep a call from hurting anybody: retry, breaker, single flight, rate limit, memory, egress."""
