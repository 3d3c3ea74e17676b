"""File system types, and the free space of the disks.

On remote file systems inotify reports no changes made by other machines.

If a disk has less free space than the minimum, an alert is sent; below a quarter of it the intake pauses, so that
Prefect's database, the ledger and the running flow runs keep the rest. Files wait in their inboxes meanwhile.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from sensors.runtime.loop import RetryLaterError
from sensors.runtime.text import disk_size

REMOTE = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav"}
)
"""File systems whose files other machines, or a virtual machine's host, change without an event here (inotify(7):
"Inotify reports only events that a user-space program triggers through the filesystem API")."""


def kind_of(folder: Path) -> str:
    """Return the type of file system that a folder is on, such as `ext4`; an empty string if it is not known."""
    mounts = ((Path(mount.mountpoint), mount.fstype) for mount in psutil.disk_partitions(all=True))
    return innermost(folder.resolve(), mounts)


def innermost(folder: Path, mounts: Iterable[tuple[Path, str]]) -> str:
    """Return the type of the mount that a folder is on; a later mount on the same path hides an earlier one."""
    kind, depth = "", 0
    for point, its_kind in mounts:
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = its_kind, len(point.parts)
    return kind


def reports_events(kind: str) -> bool:
    """Return whether every change on this type of file system causes an inotify event here."""
    return kind not in REMOTE and not kind.startswith("fuse")


DEFAULT_SHARE = 0.05
DEFAULT_MOST_BYTES = 2 * 2**30
"""The default minimum: 5 % of the file system, at most 2 GiB."""
INODES_SHARE = 0.02
PAUSE_SHARE = 0.25
"""The intake pauses below this share of the minimum, and continues above twice that share."""
PAUSED_SECONDS = 2.0
_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}{suffix}": 1024**power for power, letter in enumerate("KMGT", 1) for suffix in ("", "B", "IB")},
}


class DiskSpaceError(RetryLaterError):
    """The intake pauses because a disk is nearly full."""

    pause_seconds = PAUSED_SECONDS


@dataclass(frozen=True)
class Minimum:
    """How much space has to be free: a number of bytes, a share, or the default."""

    free_bytes: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Minimum":
        """Read `5%`, `2GB`, `500 MB` or a number of bytes; empty means the default. Raises ValueError.

        >>> Minimum.parse("2GB").of(10**12), Minimum.parse("10%").of(1000), Minimum.parse("").of(1000)
        (2147483648, 100, 50)
        """
        text = text.strip()
        if not text:
            return cls()
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|[KMGT]?(?:I?B)?)", text.upper())
        if match is None:
            raise ValueError("expected a share or a size such as 5% or 2GB")
        number = float(match[1])
        if match[2] == "%":
            if number >= 100:
                raise ValueError("expected less than 100%")
            return cls(share=number / 100)
        return cls(free_bytes=round(number * _UNITS[match[2]]))

    def of(self, total: int) -> int:
        """Return the minimum in bytes for a file system of `total` bytes."""
        if self.free_bytes is not None:
            return self.free_bytes
        if self.share is not None:
            return round(total * self.share)
        return min(round(total * DEFAULT_SHARE), DEFAULT_MOST_BYTES)


@dataclass(frozen=True)
class FileSystem:
    """The space of one file system, in bytes, and the parts of this installation that are on it."""

    device: int
    folders: tuple[Path, ...]
    parts: tuple[str, ...]
    total: int
    free: int
    inodes: int
    """How many files it can hold; 0 if it has no fixed limit."""
    free_inodes: int

    def lacks(self, minimum: Minimum, share: float = 1.0) -> str:
        """Return which resource is short, in words; empty if at least this share of the minimum is free."""
        wanted = minimum.of(self.total) * share
        if self.free < wanted:
            return f"{disk_size(self.free)} of {disk_size(self.total)} free, expected {disk_size(wanted)}"
        wanted = self.inodes * INODES_SHARE * share
        if self.inodes and self.free_inodes < wanted:
            return f"{self.free_inodes} of {self.inodes} inodes (files) free, expected {wanted:.0f}"
        return ""

    @property
    def named(self) -> str:
        """The parts that are on it and a folder, for messages."""
        return f"the disk of {', '.join(self.parts)} ({self.folders[0]})"


def read_file_systems(
    folders: Mapping[str, Path],
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    device_of: Callable[[Path], int] = lambda path: path.stat().st_dev,
) -> list[FileSystem]:
    """Return the file systems that these folders, given by part, are on.

    A folder that does not exist yet counts for the file system that it will be on. A file system that cannot be read
    is left out: the code that needs it reports the error.
    """
    by_device: dict[int, list[tuple[str, Path]]] = {}
    for name, folder in folders.items():
        try:
            there = _nearest(folder)
            by_device.setdefault(device_of(there), []).append((name, there))
        except OSError:
            continue
    found: list[FileSystem] = []
    for device, parts in by_device.items():
        try:
            room = statvfs(parts[0][1])
        except OSError:
            continue
        names, places = tuple(name for name, _ in parts), tuple(place for _, place in parts)
        found.append(
            FileSystem(
                device,
                places,
                names,
                room.f_blocks * room.f_frsize,
                room.f_bavail * room.f_frsize,
                room.f_files,
                room.f_favail,
            )
        )
    return found


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


class DiskSpace:
    """Whether the disks have enough space; one loop reads it, and the code that needs space asks for it."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        minimum: Minimum,
        read: Callable[[Mapping[str, Path]], list[FileSystem]] = read_file_systems,
    ) -> None:
        self._folders = folders
        self._minimum = minimum
        self._read = read
        self._low: frozenset[int] = frozenset()
        self._full: frozenset[int] = frozenset()
        self.file_systems: tuple[FileSystem, ...] = ()
        self.low: tuple[tuple[FileSystem, str], ...] = ()
        """The file systems that have less than the minimum, each with the resource that is short."""
        self.paused_by: str = ""
        """The disks that the intake waits for; empty while there is enough space."""

    def look(self) -> None:
        """Read the free space."""
        self.file_systems = tuple(self._read(self._folders))
        # Hysteresis: a pause ends at twice its threshold, a warning at 10 % above the minimum.
        self._low = frozenset(_those(self.file_systems, self._minimum, self._low, 1.0, 1.1))
        self._full = frozenset(_those(self.file_systems, self._minimum, self._full, PAUSE_SHARE, 2 * PAUSE_SHARE))
        self.low = tuple((one, one.lacks(self._minimum, 1.1)) for one in self.file_systems if one.device in self._low)
        full = [one.named for one in self.file_systems if one.device in self._full]
        self.paused_by = "; ".join(full)

    def require(self) -> None:
        """Raise DiskSpaceError while the intake has to pause."""
        if self.paused_by:
            raise DiskSpaceError(f"{self.paused_by} is nearly full; files wait in their inboxes until there is room")


def _those(
    systems: Iterable[FileSystem], minimum: Minimum, before: frozenset[int], below: float, until: float
) -> Iterable[int]:
    for one in systems:
        if one.lacks(minimum, until if one.device in before else below):
            yield one.device
