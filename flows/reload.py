"""Which files of an arrival are loaded again though their load keys are there, in place of their rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.source_file import Rejected, SourceFile

ALL_FILES = "*"
"""Stands for every file of the arrival."""


@dataclass(frozen=True)
class Reload:
    """The names of the files.

    >>> Reload(frozenset({"north/orders.csv"})).covers("orders.csv")
    False
    """

    names: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Tell whether this file is loaded again."""
        return ALL_FILES in self.names or name in self.names

    def not_found(self, files: Sequence[SourceFile | Rejected]) -> tuple[Rejected, ...]:
        """Return a rejection for each name that no file has: nobody shall believe that its rows were replaced."""
        missing = self.names - {ALL_FILES, *(file.name for file in files)}
        return tuple(Rejected(name, 0, "the source has no file of this name to reload") for name in sorted(missing))
