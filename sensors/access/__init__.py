"""Access: accounts and roles, log-ins, origins, and the audit log, decided from a request's head alone.

Nothing here knows the page or Prefect's API, which both use it.
"""
