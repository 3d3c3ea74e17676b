"""Names and texts as SQL: nothing that comes out of a file or its name is ever trusted."""

import re
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
    """Return a path as the SQL string literal under which DuckDB reads that very file.

    DuckDB takes `*`, `?` and `[` in a path for a pattern; as a set of one character each stands for itself.
    """
    return literal(re.sub(r"([*?\[])", r"[\1]", str(path)))
