"""Settings, the profile, the inboxes, and which file names an inbox admits.

Nothing here reads the ledger or touches a dropped file.
"""
