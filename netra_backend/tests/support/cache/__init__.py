"""The cache under test: a small world of writers, a log, nodes and a shared tier, in which every step can come at any moment."""
