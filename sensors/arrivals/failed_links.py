"""The folder `failed/`: links to the files that need attention, with the reasons. The data itself stays in place.

    failed/arrivals/<arrival id>/REASONS.txt
    failed/arrivals/<arrival id>/links/
    failed/inboxes/<inbox>/REASONS.txt
    failed/inboxes/<inbox>/links/
    failed/inboxes/<inbox>/shortcuts/    for a remote inbox

Users choose the names of files, and may replace a file by a symbolic link at any time. So `links/` contains only links
and none of the sensor's own files: a write to a name that a user can choose might follow a link.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sensors.files.beneath import (
    NOT_THERE,
    Place,
    appending,
    names_in,
    open_folder,
    open_root,
    place_of,
    remove_tree,
    replace_file,
    root_of,
    write_all,
)
from sensors.ledger import Ledger, files
from sensors.ledger.arrivals import failed_ids
from sensors.ledger.files import NotLoaded, RejectedInPlace
from sensors.runtime.text import readable


@dataclass
class EscapedNames:
    r"""Finds files below one root by the escaped names in the ledger, and lists each folder once.

    A file that the ledger shows as `a\nb.csv` may have a line feed in its name. See `readable` for the escaping.
    """

    root: str
    _listed: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    def find(self, shown: str, inode: int) -> str | None:
        """Return the path, below the root, of the file with this escaped name and this inode, or None if it is gone."""
        return next(self._found("", shown.split("/"), inode), None)

    def _found(self, folder: str, steps: list[str], inode: int) -> Iterator[str]:
        for name in self._names(folder).get(steps[0], [steps[0]]):
            path = f"{folder}/{name}" if folder else name
            if len(steps) > 1:
                yield from self._found(path, steps[1:], inode)
            elif self._inode(path) == inode:
                yield path

    def _names(self, folder: str) -> dict[str, list[str]]:
        """Return a folder's entries by escaped name, limited to escaped names that contain a backslash."""
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


REASONS = "REASONS.txt"
ARRIVALS, INBOXES = "arrivals", "inboxes"
LINKS, SHORTCUTS = "links", "shortcuts"
LONGEST = 200
"""Maximum length of a link's name in bytes; most file systems allow 255."""


@dataclass(frozen=True)
class FailedFolder:
    """Shows files that were not loaded: a folder for each failed arrival and for each inbox that rejected files."""

    ledger: Ledger
    folder: Path

    def show(self, arrival_id: str) -> None:
        """Link the files of an arrival that failed or were rejected; safe to repeat. Raises OSError."""
        self._show(ARRIVALS, arrival_id, files.not_loaded_of(self.ledger, arrival_id))

    def refresh(self, arrival_id: str) -> None:
        """Remove an arrival's folder, and show the arrival again if it is still failed. Raises OSError."""
        self._remove(ARRIVALS, [arrival_id])
        self.show(arrival_id)

    def show_rejected(self, inbox: str) -> None:
        """Link all files that were rejected in an inbox; safe to repeat. Raises OSError."""
        self._show(INBOXES, inbox, files.rejected_in(self.ledger, inbox))

    def show_more_refused(self, inbox: str, refused: Sequence[RejectedInPlace]) -> None:
        """Link newly rejected files of an inbox, at a cost that does not depend on earlier ones. Raises OSError."""
        bad = [NotLoaded(file.name, file.path, file.reason, file.identity.inode) for file in refused]
        try:
            with self._folder(INBOXES, inbox) as shown, appending(Place(shown, REASONS)) as reasons:
                _link_all(shown, self.folder / INBOXES / inbox, bad)
                write_all(reasons, _lines(bad))
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            self.show_rejected(inbox)  # something else has the name of the reasons file

    def show_all(self) -> None:
        """Repair the folder after a crash, and replace the layout of version 1.0.0. Raises OSError."""
        with self._folder() as failed:
            for name in set(names_in(failed)) - {ARRIVALS, INBOXES}:
                remove_tree(failed, name)
        # List the folders before querying the ledger: a row is written before its folder is made, so no folder of a
        # known failure is removed.
        listed = self._listed(ARRIVALS)
        failed_arrivals = failed_ids(self.ledger)
        self._remove(ARRIVALS, listed - failed_arrivals)
        listed = self._listed(INBOXES)
        self._remove(INBOXES, {name for name in listed if not files.has_rejected(self.ledger, readable(name))})
        for arrival_id in failed_arrivals:
            if not self._is_shown(arrival_id):
                self.show(arrival_id)

    def _listed(self, kind: str) -> set[str]:
        with self._folder(kind) as folder:
            return set(names_in(folder))

    def _remove(self, kind: str, names: Iterable[str]) -> None:
        with self._folder(kind) as folder:
            for name in names:
                remove_tree(folder, name)

    def _is_shown(self, arrival_id: str) -> bool:
        """Return whether an arrival's folder is complete and has no entries of another layout."""
        with self._folder(ARRIVALS) as arrivals:
            try:
                shown = open_folder(arrivals, arrival_id)
            except OSError:
                return False
        try:
            return set(names_in(shown)) == {LINKS, REASONS} and not _is_link(Place(shown, REASONS))
        finally:
            os.close(shown)

    def _show(self, kind: str, name: str, bad: Sequence[NotLoaded]) -> None:
        with self._folder(kind) as folder:
            if not bad:
                remove_tree(folder, name)
                return
        with self._folder(kind, name) as shown:
            wanted = _link_all(shown, self.folder / kind / name, bad)
            for entry in set(names_in(shown)) - {LINKS, SHORTCUTS, REASONS}:
                remove_tree(shown, entry)
            for part in (LINKS, SHORTCUTS):
                _keep_only(shown, part, wanted)
            _replace(Place(shown, REASONS), _lines(bad))

    @contextmanager
    def _folder(self, *steps: str) -> Generator[int]:
        """Open a folder below `failed/` and yield its descriptor.

        The folder is created if necessary, and replaces anything else of that name.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = open_root(self.folder)
        try:
            for step in steps:
                below = _own_folder(descriptor, step)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def _own_folder(parent: int, name: str) -> int:
    try:
        return open_folder(parent, name, make=True)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
    remove_tree(parent, name)
    return open_folder(parent, name, make=True)


def _is_link(place: Place) -> bool:
    try:
        with place.reading():
            return False
    except OSError:
        return True


def _keep_only(shown: int, part: str, wanted: set[tuple[str, str]]) -> None:
    """Remove the links of files that no longer need attention."""
    try:
        folder = open_folder(shown, part)
    except FileNotFoundError:
        return
    try:
        for name in names_in(folder):
            if (part, name) not in wanted:
                remove_tree(folder, name)
    finally:
        os.close(folder)


def _replace(place: Place, content: bytes, by: Place | None = None) -> None:
    try:
        replace_file(place, content, by=by)
    except IsADirectoryError:
        remove_tree(place.folder, place.name)
        replace_file(place, content, by=by)


# -- links and shortcuts


def _link_all(shown: int, at: Path, bad: Iterable[NotLoaded]) -> set[tuple[str, str]]:
    """Make a link or shortcut for each file; return the folder and name of each. `at` is the path of `shown`."""
    made: set[tuple[str, str]] = set()
    names: dict[str, EscapedNames] = {}
    folders: dict[str, int] = {}
    try:
        for file in bad:
            part = SHORTCUTS if "://" in file.path else LINKS
            if part not in folders:
                folders[part] = _own_folder(shown, part)
            if part == SHORTCUTS:
                name = _make_shortcut(folders[part], shown, file)
            else:
                name = _make_link(folders[part], os.path.relpath(_real_path(file, names), at / part), file)
            made.add((part, name))
    finally:
        for folder in folders.values():
            os.close(folder)
    return made


def _real_path(file: NotLoaded, names: dict[str, EscapedNames]) -> str:
    """Return the unescaped path of a file, or the path in the ledger if the file is gone."""
    if file.inode is None or "\\" not in file.name:
        return file.path
    root = root_of(file.path, file.name)
    found = names.setdefault(root, EscapedNames(root)).find(file.name, file.inode)
    return file.path if found is None else f"{root}/{found}"


def _make_link(folder: int, target: str, file: NotLoaded) -> str:
    for name in _names_for(file):
        try:
            os.symlink(target, name, dir_fd=folder)
        except FileExistsError:
            with suppress(OSError):
                if os.readlink(name, dir_fd=folder) == target:
                    return name
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return ""  # the target's path is too long for a link; REASONS.txt names the file
        else:
            return name
    return ""


def _make_shortcut(folder: int, above: int, file: NotLoaded) -> str:
    content = f"[InternetShortcut]\nURL={readable(file.path)}\n".encode("utf-8", "backslashreplace")
    for plain in _names_for(file):
        place = Place(folder, f"{plain}.url")
        try:
            with place.reading() as opened:
                if opened.read(len(content) + 1) == content:
                    return place.name
        except FileNotFoundError:
            _replace(place, content, by=Place(above, f".{secrets.token_hex(8)}.part"))
            return place.name
        except OSError:
            continue
    return ""


def _names_for(file: NotLoaded) -> Iterator[str]:
    """Yield candidate names for a file's link; the first one that no other file has is used."""
    plain = readable(file.name).replace("/", "_")
    short = plain.encode()[:LONGEST].decode("utf-8", "ignore")
    if plain == short:
        yield plain
    for attempt in range(100):
        digest = hashlib.sha256(f"{attempt} {file.path} {file.inode}".encode("utf-8", "backslashreplace")).hexdigest()
        yield f"{short}-{digest[:16]}"


def _lines(bad: Iterable[NotLoaded]) -> bytes:
    """Return one line per file with its reason; names and reasons are escaped so that each stays on its line."""
    lines = (f"{readable(file.name)}: {readable(file.reason or 'no reason was given')}\n" for file in bad)
    return "".join(lines).encode()
