"""What people look at, read from the ledger: arrivals, files, inboxes, days, and what needs attention.

Nothing here changes the ledger.
"""
