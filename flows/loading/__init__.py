"""Loading files into a table: each with its load key in one transaction, and what became of each.

Nothing here knows of Prefect.
"""
