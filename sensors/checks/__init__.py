"""Check files without loading them, against a table and the rules of an inbox.

The files are read by `python -m flows.check.run`, in a process of its own.
"""
