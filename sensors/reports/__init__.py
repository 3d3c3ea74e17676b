"""Read-only queries of the ledger for the web page and the command line: arrivals, files, inboxes, days, issues.

Nothing here changes the ledger.
"""
