"""The read-only commands: status, history, show, logs, check, preview.

They print on the terminal or as JSON for scripts; most of what they show is read from the ledger by `reports`.
"""
