"""Recovery: retry, replay, dismissal, and rebuilding the ledger.

The commands for it are in `cli` and `__main__`.
"""
