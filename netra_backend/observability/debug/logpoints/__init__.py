"""Logpoints: a picture of a function's variables whenever watched work passes a place, in a program that runs on unchanged (D2, D3).

`places.py` finds the code that a place names, `engine.py` has it watched while some session asks, by `monitoring.py` (Python 3.12 and
later) or `rewriting.py` (3.11), and `snapshot.py` is what happens when it is passed. `sys.settrace` is never used: it belongs to debuggers
and slows everything.
"""
