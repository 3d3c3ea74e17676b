"""Flow runs: arrivals are announced to Prefect, and receipts, outcomes and facts are read back from its API.

Nothing here sends an alert by itself.
"""
