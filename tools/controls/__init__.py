"""Controls: the code broken on purpose, in the one way that a promise forbids, to see its test fail.

A test that has never been seen failing proves nothing. Each control of netra_backend/tests/controls.toml names a
promise, edits, and the test that must notice. `python -m tools.controls` copies the tree aside and says of each:

* `caught`      the test passes on the code as it is and fails on the broken build
* `missed`      the test passes on the broken build too
* `unexecuted`  the test never runs the line that the edit changes, so its verdict means nothing
* `broken`      the edit does not apply, the test fails unedited, cannot run, or exceeds its time

The working tree is never written to.
"""
