"""Configuration: settings, the profile, the inboxes and which names they admit.

Nothing here reads the ledger or touches a dropped file.
"""
