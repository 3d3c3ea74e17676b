"""Checking files without loading them: which table and which rules they are held to.

What becomes of them is found by `python -m flows.check.run`, in a process of its own.
"""
