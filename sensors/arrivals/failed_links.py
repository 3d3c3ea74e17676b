r"""The real names of files that the ledger has under an escaped one: `a\nb.csv` may have a line feed in its name."""

import errno
import hashlib
import os
import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sensors.config.admission import readable
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
from sensors.ledger import Ledger
from sensors.ledger.files import Refused


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


# The folder `failed/`: links to the files that need attention, with the reasons; the data stays where it is.
#
# failed/arrivals/<arrival id>/REASONS.txt failed/inboxes/<inbox>/REASONS.txt failed/arrivals/<arrival id>/links/
# failed/inboxes/<inbox>/links/ failed/inboxes/<inbox>/shortcuts/ of a remote inbox
#
# Users choose the names of files, and may replace a file by a symbolic link at any time. So `links/` has nothing but
# links in it, and no file of ours is beside one: to write into that would be to write where the link leads.

REASONS = "REASONS.txt"
ARRIVALS, INBOXES = "arrivals", "inboxes"
LINKS, SHORTCUTS = "links", "shortcuts"
LONGEST = 200
"""Bytes of a link's name; most file systems take 255."""


@dataclass(frozen=True)
class _BadFile:
    name: str
    path: str
    reason: str | None
    inode: int | None = None
    """Of a file that was rejected in its inbox, whose name and path may be escaped."""


@dataclass(frozen=True)
class FailedFolder:
    """Shows what was not loaded: a folder for each failed arrival, and one for each inbox that rejected files."""

    ledger: Ledger
    folder: Path

    def show(self, arrival_id: str) -> None:
        """Link the bad files of an arrival; safe to repeat. Raises OSError."""
        rows = self.ledger.rows(
            "SELECT f.name, f.reason, a.folder || '/' || f.name AS path FROM files f"
            " JOIN arrivals a ON a.id = f.arrival_id"
            " WHERE a.id = ? AND a.state = 'failed' AND f.state IN ('failed', 'rejected') ORDER BY f.id",
            (arrival_id,),
        )
        self._show(ARRIVALS, arrival_id, [_BadFile(row["name"], row["path"], row["reason"]) for row in rows])

    def refresh(self, arrival_id: str) -> None:
        """Show an arrival's bad files as they are now, or nothing when none needs attention. Raises OSError."""
        self._remove(ARRIVALS, [arrival_id])
        self.show(arrival_id)

    def show_refused(self, inbox: str) -> None:
        """Link the files that an inbox rejected in place; safe to repeat. Raises OSError."""
        rows = self.ledger.rows(
            "SELECT name, reason, path, inode FROM files"
            " WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL ORDER BY id",
            (inbox,),
        )
        bad = [_BadFile(row["name"], row["path"], row["reason"], int(row["inode"])) for row in rows]
        self._show(INBOXES, inbox, bad)

    def show_more_refused(self, inbox: str, refused: Sequence[Refused]) -> None:
        """Link what an inbox has rejected since all were shown, however many those are. Raises OSError."""
        bad = [_BadFile(file.name, file.path, file.reason, file.identity.inode) for file in refused]
        try:
            with self._folder(INBOXES, inbox) as shown, appending(Place(shown, REASONS)) as reasons:
                _link_all(shown, self.folder / INBOXES / inbox, bad)
                write_all(reasons, _lines(bad))
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            self.show_refused(inbox)  # something else has the name of the reasons

    def show_all(self) -> None:
        """Bring in line what a crash left, and replace what version 1.0.0 laid out otherwise. Raises OSError."""
        with self._folder() as failed:
            for name in set(names_in(failed)) - {ARRIVALS, INBOXES}:
                remove_tree(failed, name)
        # What is listed before the ledger is asked has been written down before its folder was made.
        listed = self._listed(ARRIVALS)
        failed_arrivals = {row["id"] for row in self.ledger.rows("SELECT id FROM arrivals WHERE state = 'failed'")}
        self._remove(ARRIVALS, listed - failed_arrivals)
        has_rejected = "SELECT 1 FROM files WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL LIMIT 1"
        listed = self._listed(INBOXES)
        self._remove(INBOXES, {name for name in listed if not self.ledger.rows(has_rejected, (readable(name),))})
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
        """Return whether an arrival's folder is complete, and nothing of another layout is in it."""
        with self._folder(ARRIVALS) as arrivals:
            try:
                shown = open_folder(arrivals, arrival_id)
            except OSError:
                return False
        try:
            return set(names_in(shown)) == {LINKS, REASONS} and not _is_link(Place(shown, REASONS))
        finally:
            os.close(shown)

    def _show(self, kind: str, name: str, bad: Sequence[_BadFile]) -> None:
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
        """Give the descriptor of a folder of ours, which is made, also in place of anything else of its name."""
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
    """Remove the links of files that need no attention any more."""
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


def _link_all(shown: int, at: Path, bad: Iterable[_BadFile]) -> set[tuple[str, str]]:
    """Make a link or shortcut for each file; return their folders and names. `at` is the path of `shown`."""
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


def _real_path(file: _BadFile, names: dict[str, EscapedNames]) -> str:
    """Return the path of a bad file; one that is not there any more has the path that was written down."""
    if file.inode is None or "\\" not in file.name:
        return file.path
    root = root_of(file.path, file.name)
    found = names.setdefault(root, EscapedNames(root)).find(file.name, file.inode)
    return file.path if found is None else f"{root}/{found}"


def _make_link(folder: int, target: str, file: _BadFile) -> str:
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
            return ""  # no link can lead there; the reasons name the file
        else:
            return name
    return ""


def _make_shortcut(folder: int, above: int, file: _BadFile) -> str:
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


def _names_for(file: _BadFile) -> Iterator[str]:
    """Yield the names under which a file may be shown; the first one that no other file has is its own."""
    plain = readable(file.name).replace("/", "_")
    short = plain.encode()[:LONGEST].decode("utf-8", "ignore")
    if plain == short:
        yield plain
    for attempt in range(100):
        digest = hashlib.sha256(f"{attempt} {file.path} {file.inode}".encode("utf-8", "backslashreplace")).hexdigest()
        yield f"{short}-{digest[:16]}"


def _lines(bad: Iterable[_BadFile]) -> bytes:
    """Return the reasons, a line each, whatever the names and the reasons have in them."""
    lines = (f"{readable(file.name)}: {readable(file.reason or 'no reason was given')}\n" for file in bad)
    return "".join(lines).encode()
