"""Load files into a table, each with its load key in one transaction, and return each file's result.

Nothing here imports Prefect.
"""
