"""Rules of this repository that no linter knows: sizes, time and chance, one HTTP client, no built SQL, clean locks.

Each rule is a function from a source to the offences in it, pure over text and syntax tree, so that a test can plant
an offence in one line. What a rule lets pass stands as data beside it, with the reason.
"""
