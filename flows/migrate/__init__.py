"""Copy a DuckDB warehouse, with its load keys, into PostgreSQL.

No other package imports from here.
"""
