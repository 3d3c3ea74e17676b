"""Rows on their way from DuckDB's query into PostgreSQL's COPY, by way of a file of texts in the spool.

A whole file first: what cannot be read or converted has then ended the load before PostgreSQL sees a row of it, and
the two never wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from psycopg.sql import SQL, Identifier

from flows.failures import TemporaryError
from flows.postgres_types import written
from flows.quoting import literal
from flows.table_columns import TableColumn

_AT_ONCE = 1_000_000
"""How many bytes are sent at a time."""
_NAME = "outgoing"


def copied(
    connection: psycopg.Connection[tuple[Any, ...]],
    reader: duckdb.DuckDBPyConnection,
    table: Identifier,
    columns: Sequence[TableColumn],
    query: tuple[str, Sequence[Any]],
    spool: Path,
) -> int:
    """Copy what a query (and its parameters) gives into a table's columns and return how many rows.

    Raises duckdb.Error, psycopg.Error, and TemporaryError when the spool cannot be read.
    """
    path = spool / _NAME
    try:
        _spool(reader, columns, query, path)
        names = SQL(", ").join(Identifier(column.name) for column in columns)
        into = SQL("COPY {} ({}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')").format(table, names)
        with connection.cursor() as cursor:
            with cursor.copy(into) as copy, path.open("rb") as rows:
                while some := rows.read(_AT_ONCE):
                    copy.write(some)
            return cursor.rowcount
    except OSError as error:
        raise TemporaryError(f"rows on their way in {spool} cannot be read: {error.strerror}") from None
    finally:
        path.unlink(missing_ok=True)


def _spool(
    reader: duckdb.DuckDBPyConnection, columns: Sequence[TableColumn], query: tuple[str, Sequence[Any]], path: Path
) -> None:
    """Write the rows as CSV: nulls are nothing, an empty text is a pair of quotes."""
    names = [f"column{at}" for at in range(len(columns))]
    values = ", ".join(written(column.type, name) for column, name in zip(columns, names, strict=True))
    reader.execute(
        f"COPY (SELECT {values} FROM ({query[0]}) AS rows ({', '.join(names)})) TO {literal(str(path))}"
        " (FORMAT csv, HEADER false, DELIMITER ',', QUOTE '\"', ESCAPE '\"', NULL '', FORCE_QUOTE *, COMPRESSION none)",
        query[1],
    )
