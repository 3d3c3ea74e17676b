"""A reading with the columns' types that rules give, and with columns taken from the file's name."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from flows.errors import RejectionError
from flows.readers.base import FileColumn, Reading, WrappedReading, check_names, raw
from flows.readers.column_types import TEXT
from flows.rules import LoadRules
from flows.source_file import SourceFile
from flows.sql_names import literal


@dataclass(frozen=True)
class RuledReading(WrappedReading):
    """A reading whose columns are changed by rules."""

    rules: LoadRules
    from_name: tuple[tuple[str, str, str], ...]
    """Columns from the file's name: name, text and type."""

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        """The columns of the file, with the types of the rules, then those from the file's name."""
        if not self.inner.columns:
            return ()
        declared = {name.lower(): rule.type for name, rule in self.rules.columns.items() if rule.type}
        columns = [
            replace(column, new_type=type_, is_blank=False) if (type_ := declared.get(column.name.lower())) else column
            for column in self.inner.columns
        ]
        named = [FileColumn(name, declared.get(name.lower(), type_)) for name, _, type_ in self.from_name]
        return (*columns, *named)

    @property
    def shape(self) -> Hashable:
        """A key of its own: the file is read alone."""
        return ("ruled", self.file.name)

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type to read a column as."""
        if any(column.name == name for name, _, _ in self.from_name):
            return TEXT
        return self.inner.read_type(self._as_in_file(column), target_type)

    def _as_in_file(self, column: FileColumn) -> FileColumn:
        return next((one for one in self.inner.columns if one.name == column.name), column)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        width = len(self.inner.columns)
        scan = self.inner.scan(read_types[:width], together)
        constants = [f"{literal(text)} AS {raw(width + at)}" for at, (_, text, _) in enumerate(self.from_name)]
        return f"SELECT {', '.join(['*', *constants])} FROM ({scan})" if constants else scan


def ruled(reading: Reading, rules: LoadRules) -> Reading:
    """Return a reading as the rules change it. Raises RejectionError if the file's name does not fit them."""
    found = rules.from_name(reading.file.name)
    if found is None:
        raise RejectionError(f"expected a name like {rules.columns_from_name}, got {reading.file.name}")
    if not found and not rules.columns:
        return reading
    check_names([*(column.name for column in reading.columns), *found])
    return RuledReading(reading, rules, tuple((name, text, type_) for name, (text, type_) in found.items()))
