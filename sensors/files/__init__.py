"""Files on the disk: identity, stability, leases, permissions, and safe access where other users may write too.

Nothing here knows an inbox, the ledger or the settings.
"""
