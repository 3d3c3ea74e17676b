"""How DuckDB reads a file of each format: its columns, their types, and the query of its rows.

Nothing here knows of the table that the rows go into, or writes anything.
"""
