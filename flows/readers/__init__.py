"""How DuckDB reads a file of each format: its columns, their types, and the query of its rows.

Nothing here knows the table that the rows are loaded into, and nothing writes to the warehouse.
"""
