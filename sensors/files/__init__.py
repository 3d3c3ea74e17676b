"""Files on the disk: identity, stability, leases, permissions, and safe opening in folders that other users may write to.

Nothing here knows an inbox, the ledger or the settings.
"""
