"""What columns of texts hold: a type for each, from a sample of the rows or from all of them."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from flows.column_types import TEXT, TEXT_TYPES, Conversion, looks_like
from flows.reading import raw


def types_of_texts(
    connection: duckdb.DuckDBPyConnection, scan: str, candidates: Sequence[Sequence[str]], row_limit: int | None
) -> tuple[int, list[str | None]]:
    """Return how many rows were looked at and, for each column of a scan, its type.

    `candidates` has for each column the types that it may be, of which the first is taken that all its texts look
    like; VARCHAR if there is none, and None if all are null. `row_limit` None looks at all rows.
    """
    tests = ", ".join(f"bool_and({_looks_like(type_)}) FILTER (text IS NOT NULL)" for type_ in TEXT_TYPES)
    limit = "" if row_limit is None else f" LIMIT {row_limit}"
    columns = ", ".join(raw(at) for at in range(len(candidates)))
    # All columns one below the other: to plan the same tests for each of them took 20 ms a file (measured).
    texts = f"SELECT unnest([{columns}]) AS text, unnest(range({len(candidates)})) AS position FROM ({scan}{limit})"
    query = f"SELECT count(*), count(text), {tests} FROM ({texts}) GROUP BY position ORDER BY position"
    found = connection.execute(query).fetchall()
    types = [_first(possible, row[2:]) if row[1] else None for possible, row in zip(candidates, found, strict=False)]
    return (found[0][0] if found else 0), types


def _first(candidates: Sequence[str], answers: Sequence[bool]) -> str:
    looks = {type_ for type_, yes in zip(TEXT_TYPES, answers, strict=True) if yes}
    return next((type_ for type_ in candidates if type_ in looks), TEXT)


def _looks_like(type_: str) -> str:
    return looks_like(type_, "text", Conversion("", TEXT, type_).cast("text"))
