"""Mounts: on some kinds the kernel does not tell us what other machines do there."""

from collections.abc import Iterable
from pathlib import Path

import psutil

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
