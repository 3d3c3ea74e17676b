"""Rename a file without ever replacing another one."""

import ctypes
import errno
import os
import sys
from pathlib import Path


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
