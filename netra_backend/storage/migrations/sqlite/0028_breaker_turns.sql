-- What an endpoint's breaker was before, for whoever looks: `o1764460000000000,h1764459970000000,c...`, the phase's first letter and the
-- microseconds since the epoch at which it began, the newest first. See webhooks/health.py.
alter table netra_endpoint_health add column turns text;
