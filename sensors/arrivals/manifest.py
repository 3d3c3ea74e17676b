"""List name, size, SHA-256 and modification time of each file of an arrival, as it was staged.

The manifest is written beside the files, under a hidden name that no dropped file can have. The flow compares the files
with it before loading, so that a file that was truncated by a power cut, or changed since, is not loaded as if it were
intact. The ledger has the manifest's own digest, which is part of the arrival's event, and can recreate the manifest.

    {"version": 1, "arrival": "metrics-20261124-140509-3f9a1c", "files": {
    "north/orders.csv": [1234, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 1795612800000000000]
    }}

The last number is the modification time in nanoseconds. A file that was rejected for its content may be corrected in
place; the file `REJECTED` lists the files that still matched the manifest when they were rejected.
"""

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from sensors.arrivals.move import COARSE_TIME_NS
from sensors.files.beneath import NOT_THERE, Identity, OpenFolders, Place, place_of, write_all
from sensors.files.durability import sync_folder
from sensors.ledger import Ledger, arrivals
from sensors.ledger.arrivals import Arrival, FileContent
from sensors.runtime.json_logging import about_arrival
from sensors.runtime.loop import beat

logger = logging.getLogger(__name__)

NAME = ".arrival-manifest"
REJECTED = ".arrival-rejected"
VERSION = 1
_READ_BYTES = 1 << 20


class ManifestError(Exception):
    """A manifest is damaged; the message says in what way."""


@dataclass(frozen=True)
class Manifest:
    """A manifest's own SHA-256, and the files that it lists, in its order."""

    digest: str
    files: tuple[FileContent, ...]


def content_of(arrival_id: str, files: Iterable[FileContent]) -> bytes:
    """Return the content of a manifest; the same files in the same order always give the same bytes."""
    lines = ",\n".join(
        f"{json.dumps(file.name)}: {json.dumps([file.size, file.sha256, file.mtime_ns])}" for file in files
    )
    return f'{{"version": {VERSION}, "arrival": {json.dumps(arrival_id)}, "files": {{\n{lines}\n}}}}\n'.encode()


def digest_of_content(content: bytes) -> str:
    """Return the SHA-256 of a manifest's content."""
    return hashlib.sha256(content).hexdigest()


def write(folder: Path, content: bytes) -> None:
    """Write a manifest atomically and sync its content; the caller syncs the folder. Raises OSError."""
    _write(folder, NAME, content)


def _write(folder: Path, name: str, content: bytes) -> None:
    with place_of(folder, name) as place:
        part = _part(place)
        part.remove()  # left by a sensor that was killed
        with part.create(0o600) as opened:
            write_all(opened, content)
            # If a group may read the arrival's folder, it may read this file as well.
            os.fchmod(opened.fileno(), 0o600 | os.fstat(place.folder).st_mode & 0o040)
            os.fsync(opened.fileno())
        part.rename_over(place)


def note_rejected(folder: Path, files: Iterable[FileContent]) -> None:
    """Record which rejected files are still as they were staged: those may be corrected in place. Raises OSError."""
    with OpenFolders() as folders:
        whole = {file.name for file in files if _is_as_listed(folders, folder, file)}
    known = rejected_in(folder)
    if whole - known:
        _write(folder, REJECTED, json.dumps(sorted(whole | known)).encode())
        sync_folder(folder)


def rejected_in(folder: Path) -> set[str]:
    """Return the names of the files that may be corrected in place."""
    try:
        names: object = json.loads(_read(folder, REJECTED))
    except (OSError, ValueError):
        return set()
    return {name for name in cast("list[object]", names) if isinstance(name, str)} if isinstance(names, list) else set()


def _is_as_listed(folders: OpenFolders, folder: Path, file: FileContent) -> bool:
    try:
        status = folders.place(folder, file.name).status()
    except OSError:
        return False
    is_as_old = abs(status.st_mtime_ns - file.mtime_ns) <= COARSE_TIME_NS
    return stat.S_ISREG(status.st_mode) and status.st_size == file.size and is_as_old


def remove(folder: Path) -> None:
    """Remove the manifest of an arrival without files. Raises OSError."""
    with place_of(folder, NAME) as place:
        _part(place).remove()
        place.remove()


def set_aside(folder: Path) -> None:
    """Rename a damaged manifest, so that it is kept for inspection and not read again. Raises OSError."""
    with place_of(folder, NAME) as place:
        place.rename_over(place.beside(f"{NAME}.damaged"))
    sync_folder(folder)


def _part(place: Place) -> Place:
    return place.beside(f"{place.name}.part")


def read(folder: Path) -> Manifest | None:
    """Return an arrival's manifest, or None for arrivals from before version 1.1. Raises ManifestError, OSError."""
    try:
        content = _read(folder, NAME)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return None
    return Manifest(digest_of_content(content), tuple(_files_in(content)))


def _read(folder: Path, name: str) -> bytes:
    with place_of(folder, name) as place, place.reading() as opened:
        return opened.readall()


def _files_in(content: bytes) -> Iterable[FileContent]:
    try:
        written: object = json.loads(content)
    except ValueError as error:
        raise ManifestError(f"it is cut off, or no JSON: {error}") from None
    files = cast("dict[str, object]", written).get("files") if isinstance(written, dict) else None
    if not isinstance(files, dict):
        raise ManifestError("it lists no files")
    for name, about in cast("dict[str, object]", files).items():
        match about:
            case [int(size), str() | None as sha256, int(mtime_ns)]:
                yield FileContent(name, size, sha256, mtime_ns)
            case _:
                raise ManifestError(f"it does not say size, SHA-256 and time of {name!r:.200}")


def content_digest(folders: OpenFolders, folder: Path, name: str) -> str | None:
    """Return the SHA-256 of a staged file (measured: 1.7 GB a second), or None if the file cannot be read.

    In that case the manifest lists only size and time, and the load reports the problem.
    """
    digest = hashlib.sha256()
    try:
        with folders.place(folder, name).reading() as content:
            while block := content.read(_READ_BYTES):
                digest.update(block)
                beat()
    except OSError as error:
        logger.warning("%s cannot be read after it was staged: %s", folder / name, error.strerror)
        return None
    return digest.hexdigest()


def restore(ledger: Ledger, arrival: Arrival) -> None:
    """Recreate an arrival's manifest from the ledger if it is missing or damaged."""
    if arrival.manifest is None:
        return
    try:
        if digest_of_content(_read(arrival.folder, NAME)) == arrival.manifest:
            return
    except OSError as error:
        if error.errno not in NOT_THERE:
            logger.warning("the manifest of arrival %s cannot be read: %s", arrival.id, error)
    content = content_of(arrival.id, arrivals.file_contents(ledger, arrival.id))
    if digest_of_content(content) != arrival.manifest:
        return
    about = about_arrival(arrival.id)
    try:
        write(arrival.folder, content)
    except OSError as error:
        logger.warning("the manifest of arrival %s cannot be written: %s", arrival.id, error, extra=about)
    else:
        logger.warning("the manifest of arrival %s was missing or damaged; it is written anew", arrival.id, extra=about)


# Read arrivals from their folders on the disk, without the ledger, in order to rebuild it.

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
        return read(folder), ""
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
