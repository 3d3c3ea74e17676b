"""Accounts and roles, log-ins, origin checks and the audit log, decided from a request's headers alone.

The drop page and the front of Prefect's API use this package; nothing here imports either.
"""
