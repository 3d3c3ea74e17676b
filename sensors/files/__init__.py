"""Files that other users may write, and how they are opened, renamed and removed safely.

Nothing here knows of inboxes, the ledger or Prefect.
"""
