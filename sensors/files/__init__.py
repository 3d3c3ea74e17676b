"""Files on the disk: identity, stability, leases, permissions, and safe access where other users may write too.

Nothing here knows about inboxes, the ledger or the settings.
"""
