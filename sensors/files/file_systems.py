"""Mounts: on some kinds the kernel does not tell us what other machines do there."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from sensors.runtime.loop import PausingError

REMOTE = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav"}
)
"""File systems whose files other machines, or a virtual machine's host, change without an event here (inotify(7):
"Inotify reports only events that a user-space program triggers through the filesystem API")."""


def kind_of(folder: Path) -> str:
    """Return the kind of file system that a folder lies on, such as `ext4`; an empty string if it is not known."""
    mounts = ((Path(mount.mountpoint), mount.fstype) for mount in psutil.disk_partitions(all=True))
    return innermost(folder.resolve(), mounts)


def innermost(folder: Path, mounts: Iterable[tuple[Path, str]]) -> str:
    """Return the kind of the mount that a folder lies on, of all mounts in their order; later ones hide earlier."""
    kind, depth = "", 0
    for point, its_kind in mounts:
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = its_kind, len(point.parts)
    return kind


def tells_events(kind: str) -> bool:
    """Tell whether every change on this kind of file system leads to an event here."""
    return kind not in REMOTE and not kind.startswith("fuse")


# Disk space: how much room the file systems of the state folder have, and when that is too little.
#
# Below the minimum an alert is sent; below a quarter of it the intake pauses, so that Prefect's database, the ledger
# and the runs that are under way keep what is left. Files wait in their inboxes meanwhile.

DEFAULT_SHARE = 0.05
DEFAULT_MOST_BYTES = 2 * 2**30
"""Without a setting: 5 % of the file system, and no more than 2 GiB."""
INODES_SHARE = 0.02
PAUSE_SHARE = 0.25
"""The intake pauses below this share of the minimum, and goes on above twice as much."""
PAUSED_SECONDS = 2.0
_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}{suffix}": 1024**power for power, letter in enumerate("KMGT", 1) for suffix in ("", "B", "IB")},
}


class DiskSpaceError(PausingError):
    """The intake pauses, because a disk is nearly full."""

    pause_seconds = PAUSED_SECONDS


@dataclass(frozen=True)
class Minimum:
    """How much room has to be free: a number of bytes, a share, or as much as is usual."""

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
        """Return the minimum for a file system of so many bytes."""
        if self.free_bytes is not None:
            return self.free_bytes
        if self.share is not None:
            return round(total * self.share)
        return min(round(total * DEFAULT_SHARE), DEFAULT_MOST_BYTES)


@dataclass(frozen=True)
class FileSystem:
    """The room of one file system, and what of ours is on it."""

    device: int
    folders: tuple[Path, ...]
    parts: tuple[str, ...]
    total: int
    free: int
    inodes: int
    """How many files it can hold; 0 if it has no limit of its own."""
    free_inodes: int

    def lacks(self, minimum: Minimum, share: float = 1.0) -> str:
        """Return what is scarce, in words; empty if more than this share of the minimum is free."""
        wanted = minimum.of(self.total) * share
        if self.free < wanted:
            return f"{size(self.free)} of {size(self.total)} free, expected {size(wanted)}"
        wanted = self.inodes * INODES_SHARE * share
        if self.inodes and self.free_inodes < wanted:
            return f"{self.free_inodes} of {self.inodes} inodes (files) free, expected {wanted:.0f}"
        return ""

    @property
    def named(self) -> str:
        """What it holds, for people."""
        return f"the disk of {', '.join(self.parts)} ({self.folders[0]})"


def size(count: float) -> str:
    """Return a number of bytes for people.

    >>> size(900), size(1_500_000), size(2 * 2**30)
    ('900 bytes', '1.4 MB', '2.0 GB')
    """
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"


def read_file_systems(
    folders: Mapping[str, Path],
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    device_of: Callable[[Path], int] = lambda path: path.stat().st_dev,
) -> list[FileSystem]:
    """Return the file systems of these folders, by the names of what is in them; a folder yet to be made counts where
    it will be. One that cannot be read is left out: what needs it reports that."""
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
    """Return the folder, or the nearest one above that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


class DiskSpace:
    """Whether the disks have room; read by one loop, and asked by those that would need some."""

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
        """As they were read last."""
        self.low: tuple[tuple[FileSystem, str], ...] = ()
        """Those that have less than the minimum, and what is scarce."""
        self.paused_by: str = ""
        """The disk that the intake waits for; empty while there is room."""

    def look(self) -> None:
        """Read how much room there is."""
        self.file_systems = tuple(self._read(self._folders))
        # Twice the room ends a pause, a tenth more ends a warning: so that neither comes and goes.
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
