"""Read arrivals from their folders on the disk, without the ledger, in order to rebuild it."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sensors.arrivals import manifest
from sensors.arrivals.manifest import Manifest, ManifestError
from sensors.files.identity import Identity

_ID = re.compile(r"(?P<inbox>.+)-(?P<when>\d{8}-\d{6})-[0-9a-f]+")


@dataclass(frozen=True)
class StoredFile:
    """A file of a stored arrival; `name` is its path below the arrival's folder, with `/`."""

    name: str
    identity: Identity


@dataclass(frozen=True)
class ArrivalOnDisk:
    """One arrival on the disk."""

    id: str
    inbox: str
    folder: Path
    taken_at: datetime
    files: tuple[StoredFile, ...]
    """All files in its manifest, including missing ones, followed by files that the manifest does not list."""
    manifest: Manifest | None = None
    damage: str = ""
    """Why its manifest cannot be used, if that is damaged."""


def stored_arrivals(arrivals_dir: Path) -> list[ArrivalOnDisk]:
    """Return every arrival that has at least one file, oldest first. Raises OSError."""
    found: dict[str, ArrivalOnDisk] = {}
    for date in _folders(arrivals_dir):
        for folder in _folders(date):
            parsed = parse_arrival_id(folder.name)
            if parsed is None or folder.name in found:
                continue
            listed, damage = _manifest(folder)
            if files := tuple(_listed(_files(folder, ""), listed)):
                found[folder.name] = ArrivalOnDisk(folder.name, parsed[0], folder, parsed[1], files, listed, damage)
    return sorted(found.values(), key=lambda one: (one.taken_at, one.id))


def _manifest(folder: Path) -> tuple[Manifest | None, str]:
    try:
        return manifest.read(folder), ""
    except ManifestError as error:
        return None, str(error)


def _listed(found: Iterator[StoredFile], listed: Manifest | None) -> Iterator[StoredFile]:
    """Yield files with size and time as they were staged, so that the load notices a changed or missing file."""
    there = {file.name: file for file in found}
    for file in listed.files if listed else ():
        stored = there.pop(file.name, None)
        identity = stored.identity if stored else Identity(0, 0, file.size, 0)
        yield StoredFile(file.name, replace(identity, size=file.size, mtime_ns=file.mtime_ns))
    yield from there.values()


def parse_arrival_id(arrival_id: str) -> tuple[str, datetime] | None:
    """Return the inbox and the UTC time in an arrival's id, or None if the text is no such id.

    >>> told_by_id("north-sea-20261124-140509-3f9a1c")
    ('north-sea', datetime.datetime(2026, 11, 24, 14, 5, 9, tzinfo=datetime.timezone.utc))
    """
    match = _ID.fullmatch(arrival_id)
    try:
        return (
            (match["inbox"], datetime.strptime(match["when"], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)) if match else None
        )
    except ValueError:
        return None


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _files(folder: Path, prefix: str) -> Iterator[StoredFile]:
    """Yield the regular files below a folder by name; hidden ones, such as `.part` leftovers, do not belong to it."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith(".") or not _is_utf8(entry.name):
            continue
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            yield StoredFile(prefix + entry.name, Identity.of(status))
        elif stat.S_ISDIR(status.st_mode):
            yield from _files(Path(entry), f"{prefix}{entry.name}/")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
