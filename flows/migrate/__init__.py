"""Copying a DuckDB warehouse into a PostgreSQL one, load keys included.

Nothing else imports from here.
"""
