"""Names and texts as SQL, and the target table: nothing that comes out of a file or its name is ever trusted."""

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
    """Return a path as the SQL string literal under which DuckDB reads that very file."""
    return literal(pattern(str(path)))


def path_list(paths: Iterable[Path]) -> str:
    """Return paths as the SQL list under which DuckDB reads those very files, in that order."""
    return f"[{', '.join(path_literal(path) for path in paths)}]"


def pattern(path: str) -> str:
    """Return the pattern that fits this path and no other, as DuckDB takes `*`, `?` and `[` in a path for a pattern.

    As a set of one character each stands for itself.

    >>> pattern("a[1]/*.csv")
    'a[[]1]/[*].csv'
    """
    return re.sub(r"([*?\[])", r"[\1]", path)


LOADS_TABLE = "_loads"
"""The table of load keys; it is in the target's schema."""

RESERVED_COLUMNS = {
    "_arrival_id": "VARCHAR",
    "_file_name": "VARCHAR",
    "_loaded_at": "TIMESTAMP WITH TIME ZONE",
}
"""The columns that every row carries, and their types."""


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
        """The table as SQL."""
        return f"{identifier(self.catalog)}.{identifier(self.schema)}.{identifier(self.table)}"

    @property
    def loads_sql(self) -> str:
        """The table of load keys as SQL."""
        return f"{identifier(self.catalog)}.{identifier(self.schema)}.{identifier(LOADS_TABLE)}"
