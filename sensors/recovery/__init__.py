"""Recover from failures: retry, replay, dismiss, and rebuild the ledger.

The commands for it are in `cli` and `__main__`.
"""
