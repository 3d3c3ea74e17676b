"""The columns of the target table: what is known of one, and which of those that are wanted are missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.target_table import RESERVED_COLUMNS


@dataclass(frozen=True)
class TableColumn:
    """A column of the table, under its real name and with DuckDB's name of its type."""

    name: str
    type: str


def missing_columns(existing: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return which of the wanted columns (name to type), and of the pipeline's own, are not among the existing ones.

    >>> list(missing_columns({"a", "_arrival_id", "_file_name"}, {"A": "BIGINT", "b": "DATE"}))
    ['b', '_loaded_at']
    """
    there = frozenset(existing)
    return {name: type_ for name, type_ in {**wanted, **RESERVED_COLUMNS}.items() if name.lower() not in there}
