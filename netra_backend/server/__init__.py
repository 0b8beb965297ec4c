"""The server: an edge that translates between HTTP and the parts, and never decides."""
