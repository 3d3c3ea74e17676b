"""Quote names, texts and paths as SQL, and name the target table and its extra columns.

Nothing from a file's content or name is trusted: it reaches SQL only quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier.

    >>> identifier('a"; DROP TABLE b')
    '"a""; DROP TABLE b"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL string literal.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def path_literal(path: Path) -> str:
    """Return a path as the SQL string literal with which DuckDB reads exactly that file."""
    return literal(pattern(str(path)))


def path_list(paths: Iterable[Path]) -> str:
    """Return paths as the SQL list with which DuckDB reads exactly those files, in that order."""
    return f"[{', '.join(path_literal(path) for path in paths)}]"


def pattern(path: str) -> str:
    """Return a glob pattern that matches only this path; DuckDB treats `*`, `?` and `[` in a path as wildcards.

    Each of them stands for itself within brackets.

    >>> pattern("a[1]/*.csv")
    'a[[]1]/[*].csv'
    """
    return re.sub(r"([*?\[])", r"[\1]", path)


LOADS_TABLE = "_loads"
"""The table of load keys, in the target's schema."""

RESERVED_COLUMNS = {
    "_arrival_id": "VARCHAR",
    "_file_name": "VARCHAR",
    "_loaded_at": "TIMESTAMP WITH TIME ZONE",
}
"""Columns that the pipeline adds to every row, and their types."""

RESCUED = "_rescued"
"""The column of what the contract `rescue` puts aside, as JSON."""


@dataclass(frozen=True)
class TargetTable:
    """`catalog.schema.table`, all in lower case."""

    catalog: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.catalog}.{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        """The quoted name of the table."""
        return f"{identifier(self.catalog)}.{identifier(self.schema)}.{identifier(self.table)}"

    @property
    def rejected(self) -> TargetTable:
        """The table of the rows that were put aside."""
        return TargetTable(self.catalog, self.schema, f"{self.table}__rejected")

    @property
    def loads_sql(self) -> str:
        """The quoted name of the table of load keys."""
        return f"{identifier(self.catalog)}.{identifier(self.schema)}.{identifier(LOADS_TABLE)}"
