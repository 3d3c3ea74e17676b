"""The real names of files that the ledger has under an escaped one: `a\\nb.csv` may have a line feed in its name."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from sensors.config.admission_part import readable
from sensors.files.beneath import names_in, open_folder, open_root, place_of


@dataclass
class EscapedNames:
    """Finds the files below one root by their names as `readable` gives them; each folder is listed once."""

    root: str
    _listed: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    def find(self, shown: str, inode: int) -> str | None:
        """Return the path below the root of the file with this inode, or None if it is not there any more."""
        return next(self._found("", shown.split("/"), inode), None)

    def _found(self, folder: str, steps: list[str], inode: int) -> Iterator[str]:
        for name in self._names(folder).get(steps[0], [steps[0]]):
            path = f"{folder}/{name}" if folder else name
            if len(steps) > 1:
                yield from self._found(path, steps[1:], inode)
            elif self._inode(path) == inode:
                yield path

    def _names(self, folder: str) -> dict[str, list[str]]:
        """Return what is in a folder by names as they are shown, as far as these are escaped or look so."""
        if folder not in self._listed:
            found: dict[str, list[str]] = {}
            for name in self._list(folder):
                if "\\" in (shown := readable(name)):
                    found.setdefault(shown, []).append(name)
            self._listed[folder] = found
        return self._listed[folder]

    def _list(self, folder: str) -> list[str]:
        try:
            root = open_root(self.root)
            try:
                descriptor = open_folder(root, folder)
            finally:
                os.close(root)
            try:
                return names_in(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return []

    def _inode(self, path: str) -> int | None:
        try:
            with place_of(self.root, path) as place:
                return place.status().st_ino
        except OSError:
            return None
