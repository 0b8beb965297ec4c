"""What an operator can see and prove: the audit trail, KPIs, traces, metrics, debug sessions. Each is a package of its own."""
