"""The warehouse that rows are loaded into: a DuckDB file or a PostgreSQL database, behind one protocol.

Nothing here decides which file is loaded, or reads one.
"""
