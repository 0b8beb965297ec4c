"""What several test files share: engines to run over, ways to break them, ways to look at what is left."""
