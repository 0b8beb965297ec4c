"""What everything may use and what uses nothing: no I/O below this line."""
