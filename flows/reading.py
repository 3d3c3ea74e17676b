"""How a file is read: what every format must be able to tell."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flows.column_types import TEXT
from flows.quoting import path_list, path_literal
from flows.source_file import SourceFile

SAMPLE_ROWS = 20_480
"""How many rows tell what a column of texts holds, as in DuckDB; all of them are asked when one disagrees later."""


@dataclass(frozen=True)
class FileColumn:
    """A column of a file, and the type that it gets if the table does not have it yet."""

    name: str
    new_type: str
    is_blank: bool = False
    """Whether nothing but nulls was seen, so that the type is a mere guess."""


def file_column(name: str, seen_type: str | None) -> FileColumn:
    """Return a column of texts; `seen_type` None: nothing but nulls was seen."""
    return FileColumn(name, seen_type or TEXT, is_blank=seen_type is None)


class Reading(Protocol):
    """How DuckDB reads one file."""

    @property
    def file(self) -> SourceFile:
        """The file that is read."""
        ...

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        """The columns in their order; none when the file does not tell their types (it has no rows)."""
        ...

    @property
    def is_sampled(self) -> bool:
        """Whether rows that were not looked at may disagree with the columns' types."""
        ...

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type that the reader gives a column which goes into a column of the target's type."""
        ...

    @property
    def shape(self) -> Hashable:
        """What files have in common that one query can read together."""
        ...

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return a query of the file's rows in their order; its columns are named raw0, raw1 and so on.

        With `together`, of the rows of these files, all of this one's shape; the column `file` tells which of them.
        """
        ...


FILE_INDEX = "file_index"
"""What DuckDB calls the place of a row's file among those that are read; a column of a file may bear the name too."""


def selection(values: Iterable[str], together: Sequence[SourceFile]) -> str:
    """Return what a scan selects: the values as raw0, raw1 and so on, and which file they are from."""
    columns = [f"{value} AS {raw(at)}" for at, value in enumerate(values)]
    return ", ".join([*columns, f"CAST({FILE_INDEX} AS BIGINT) AS file"] if together else columns)


def paths(file: SourceFile, together: Sequence[SourceFile]) -> str:
    """Return the SQL of the path of a file, or of those of several."""
    return path_list(one.path for one in together) if together else path_literal(file.path)


def raw(position: int) -> str:
    """Return the name of a scan's column."""
    return f"raw{position}"
