"""The command `netra`: an edge that translates and never decides."""
