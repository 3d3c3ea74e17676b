"""Make files and folders survive a power cut (fsync and syncfs).

The kernel writes data to the disk some time after a program has written it, and a file system may store a new name
before the file's content. So a step that other code relies on first syncs the content, and then the folder's names.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from sensors.files.beneath import NOT_THERE, NotRegularError, OpenFolders, Place, open_beneath
from sensors.files.file_systems import kind_of
from sensors.runtime.loop import beat

FEW = 4
"""Up to this many files are synced one by one. One takes 0.6 to 2 ms, 100 take 220 ms, 10,000 take 3.2 s; one syncfs(2)
takes 2 to 5 ms for 1 to 100 files, and 0.1 s for 10,000 (measured, ext4), but also writes other programs' data."""
WHOLE_FILE_SYSTEMS = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "reiserfs", "tmpfs", "xfs", "zfs"}
)
"""Local file systems, where syncfs(2) reaches the disk. On network mounts and FUSE it may not."""
AT_ONCE = 8
"""Threads that sync files on all other file systems: 10,000 files take 0.9 s instead of 3.2 s (measured, ext4)."""

_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS})
"""Errors of fsync(2) where nothing can be synced, as on some FUSE mounts."""
_libc_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None


def sync_folder(folder: Path | str) -> None:
    """Make the renames in a folder survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """Write an open file's content to the disk. Raises OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def sync_contents(root: Path | str, names: Sequence[str]) -> bool:
    """Write the contents of many files, given by their paths below a root, to the disk; return whether that succeeded.

    False for a few files, and after an error: the caller then syncs each file while it has it open, so that only the
    file that cannot be written to the disk is delayed. Files that are missing or may not be read are skipped.
    """
    if len(names) <= FEW:
        return False
    try:
        if kind_of(Path(root)) in WHOLE_FILE_SYSTEMS:
            return _sync_file_systems(root, names)
        with closing(_Root(root)) as opened, ThreadPoolExecutor(AT_ONCE, "syncing") as threads:
            for _ in threads.map(opened.sync, names):
                beat()
    except OSError:
        return False
    return True


def sync_file_system(descriptor: int) -> bool:
    """Write all data of the file system that an open file is on to the disk; return whether that succeeded."""
    return _libc_syncfs is not None and _libc_syncfs(descriptor) == 0


def sync_place(place: Place) -> None:
    """Write a regular file's content to the disk; a file that may not be read is skipped. Raises OSError."""
    with suppress(PermissionError, NotRegularError), place.reading() as opened:
        sync_descriptor(opened.fileno())


class _Root:
    def __init__(self, root: Path | str) -> None:
        self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self, name: str) -> None:
        try:
            descriptor = open_beneath(self._descriptor, name)
        except OSError as error:
            if error.errno in NOT_THERE or error.errno in {errno.EACCES, errno.EPERM, errno.ENXIO}:
                return
            raise
        try:
            sync_descriptor(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _sync_file_systems(root: Path | str, names: Iterable[str]) -> bool:
    """Sync every file system that the files' folders are on; return whether that succeeded."""
    synced: set[int] = set()
    with OpenFolders() as folders:
        for above in sorted({name.rpartition("/")[0] for name in names}):
            try:
                folder = folders.place(root, f"{above}/*" if above else "*").folder
            except OSError as error:
                if error.errno in NOT_THERE:
                    continue
                raise
            if (device := os.fstat(folder).st_dev) not in synced:
                if not sync_file_system(folder):
                    return False
                synced.add(device)
    return True


# Rename a file without ever replacing another one.


def rename_without_replacing(
    old: Path | str, new: Path | str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Rename a file; raises FileExistsError if the new name is taken, OSError with EXDEV across devices.

    Relative names start at the directory descriptors, as in `os.rename`. renameat2(2) checks and renames in one step,
    and a watcher sees a rename, the surest sign of a complete file. Without it, a hard link to the new name and the
    removal of the old one do the same, but to a watcher the link looks like a file being written.
    """
    if _renameat2(old, new, src_dir_fd, dst_dir_fd):
        return
    os.link(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)
    os.unlink(old, dir_fd=src_dir_fd)


def _renameat2(old: Path | str, new: Path | str, src_dir_fd: int | None, dst_dir_fd: int | None) -> bool:
    """Return whether the rename was done; False where the system or the file system does not support it."""
    if sys.platform != "linux" or _libc_renameat2 is None:
        return False
    source = _AT_WORKING_DIRECTORY if src_dir_fd is None else src_dir_fd
    target = _AT_WORKING_DIRECTORY if dst_dir_fd is None else dst_dir_fd
    if _libc_renameat2(source, os.fsencode(old), target, os.fsencode(new), _NO_REPLACE) == 0:
        return True
    error = ctypes.get_errno()
    if error in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        return False
    raise OSError(error, os.strerror(error), str(old), None, str(new))


_AT_WORKING_DIRECTORY, _NO_REPLACE = -100, 1  # AT_FDCWD, RENAME_NOREPLACE
_libc_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
