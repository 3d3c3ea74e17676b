"""Access: who may do what on the drop page and on Prefect's API, decided from a request's head alone.

Nothing here knows of inboxes, the ledger or the stack; the settings, the page and the API's front use it.
"""
