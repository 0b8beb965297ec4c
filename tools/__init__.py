"""Tools of the build: run from the repository's root, never shipped."""
