"""Open, write, rename and remove files below a folder that other users may write to, without following links.

Each system call resolves its path anew. A user who may write to an inbox can replace a file, or a folder above it, by a
symbolic link between two such calls; the second call then reads, renames or overwrites a file that the user could not
reach. So only the root, which the configuration names, is opened by its path. Everything below it is opened relative to
the root's descriptor, with O_NOFOLLOW at each step, and all further work is done with the opened descriptor.
"""

import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from pathlib import Path
from typing import NamedTuple, Self

# The identity of a file: whether a path still has the same, unchanged file.


@dataclass(frozen=True, slots=True)
class Identity:
    """Device, inode, size in bytes and modification time in nanoseconds of the file at one path."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the identity of the file that a stat describes."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""O_NONBLOCK avoids waiting for the writer of a FIFO; on regular files it has no effect."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
COPY_BYTES = 2**20
MOST_OPEN = 64
"""How many folders `OpenFolders` keeps open; a process may have 1,024 descriptors on most systems."""

NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors if a name, or a folder above it, is missing or has been replaced by a link."""


class NotRegularError(OSError):
    """A FIFO, device, socket or folder has the name of a file."""


def open_root(folder: Path | str) -> int:
    """Return a descriptor of a folder that the configuration names; links in its path are followed."""
    return os.open(folder, _ROOT)


def open_beneath(root: int, name: str, flags: int = READ) -> int:
    """Open `name`, a path below an open folder, following no link. Raises OSError, with ELOOP or ENOTDIR for a link.

    openat2(2) resolves the path in one system call; if the kernel lacks or forbids it, each step is opened separately,
    which is as safe.
    """
    folder, _, plain = name.rpartition("/")
    if not folder:
        _check_step(plain)
        return os.open(plain, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    for step in name.split("/"):
        _check_step(step)
    if (opened := _openat2(root, name, flags)) is not None:
        return opened
    return _open_by_steps(root, name, flags)


def _open_by_steps(root: int, name: str, flags: int) -> int:
    *folders, plain = name.split("/")
    _check_step(plain)
    descriptor = _steps_down(root, folders)
    try:
        return os.open(plain, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def open_folder(root: int, folder: str, *, make: bool = False) -> int:
    """Return a descriptor of a folder below an open one, or of that one for `""`; `make` creates missing folders."""
    if make or not folder:
        return _steps_down(root, folder.split("/") if folder else [], make=make)
    return open_beneath(root, folder, _FOLDER)


def _steps_down(root: int, folders: list[str], *, make: bool = False) -> int:
    descriptor = os.dup(root)
    for step in folders:
        try:
            _check_step(step)
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=descriptor)
            below = os.open(step, _FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def names_in(folder: int) -> list[str]:
    return os.listdir(folder)


def _check_step(step: str) -> None:
    if step in {"", ".", ".."} or "/" in step:
        raise OSError(errno.EINVAL, "expected a name in the folder, without `.`, `..` or empty parts", step)


class Place(NamedTuple):
    """A name in an open folder, whatever entry has that name at the moment. No method follows a link."""

    folder: int
    """The folder's descriptor."""
    name: str

    def beside(self, name: str) -> "Place":
        """Return the place of another name in the same folder."""
        return Place(self.folder, name)

    def status(self) -> os.stat_result:
        """Return the stat of the entry. Raises FileNotFoundError, OSError."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def identity(self) -> Identity | None:
        """Return the identity of the entry, or None if there is none."""
        try:
            return Identity.of(self.status())
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Return whether any entry has the name, links included."""
        return self.identity() is not None

    def remove(self) -> None:
        """Remove the file or link, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.folder)

    def rename_over(self, other: "Place") -> None:
        """Rename the entry; a file or link of the other name is replaced."""
        os.rename(self.name, other.name, src_dir_fd=self.folder, dst_dir_fd=other.folder)

    @contextmanager
    def reading(self) -> Generator[FileIO]:
        """Open a regular file. Raises NotRegularError, OSError with ELOOP for a link."""
        descriptor = os.open(self.name, READ, dir_fd=self.folder)
        with FileIO(descriptor, "rb") as opened:
            check_regular(descriptor, self.name)
            yield opened

    def create(self, mode: int = 0o666) -> FileIO:
        """Create a file and open it. Raises FileExistsError if any entry has the name, even a link."""
        return FileIO(os.open(self.name, CREATE, mode, dir_fd=self.folder), "wb")

    def sync_folder(self) -> None:
        """Make renames in the folder survive a power cut."""
        os.fsync(self.folder)


def check_regular(descriptor: int, name: str) -> os.stat_result:
    """Return the stat of an open file. Raises NotRegularError unless it is a regular file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(errno.EINVAL, "not a regular file", name)
    return status


@dataclass
class OpenFolders:
    """A cache of folder descriptors for the length of a job, at most `MOST_OPEN` at a time."""

    _open: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict[tuple[str, str], int])

    def place(self, root: Path | str, name: str, *, make: bool = False) -> Place:
        """Return the place of a file, by its path below a root; `make` creates missing folders.

        A place is valid until `MOST_OPEN` other folders were opened. Raises OSError, with ELOOP or ENOTDIR for a link.
        """
        folder, _, plain = name.rpartition("/")
        _check_step(plain)
        return Place(self._folder(str(root), folder, make=make), plain)

    def _folder(self, root: str, folder: str, *, make: bool) -> int:
        key = root, folder
        if (known := self._open.get(key)) is not None:
            self._open.move_to_end(key)
            return known
        if folder:
            descriptor = open_folder(self._folder(root, "", make=make), folder, make=make)
        else:
            if make:
                os.makedirs(root, exist_ok=True)  # noqa: PTH103 - a string
            descriptor = open_root(root)
        while len(self._open) >= MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[key] = descriptor
        return descriptor

    def close(self) -> None:
        """Close all folders."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def place_of(root: Path | str, name: str, *, make: bool = False) -> Generator[Place]:
    """Yield the place of one file, by its path below a root; valid inside the block. Raises OSError."""
    with OpenFolders() as folders:
        yield folders.place(root, name, make=make)


def remove_beneath(root: Path | str, name: str) -> None:
    """Remove a file, by its path below a root, if it exists. Raises OSError."""
    try:
        with place_of(root, name) as place:
            place.remove()
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise


def root_of(path: Path | str, name: str) -> str:
    """Return the root of a file that has the path `name` below it.

    >>> root_of("/data/inbox/metrics/2026/a.csv", "2026/a.csv")
    '/data/inbox/metrics'
    """
    whole = os.fspath(path)
    if not whole.endswith(f"/{name}"):
        raise ValueError(f"expected a path that ends with /{name}, got {whole}")
    return whole[: -len(name) - 1] or "/"


def replace_file(place: Place, content: bytes, *, by: Place | None = None, mode: int = 0o666) -> None:
    """Replace a file's content atomically; a link of that name is replaced, never written through.

    The content is first written under a temporary name: `by`, or a random one in the same folder.
    """
    partial = by or place.beside(f".{secrets.token_hex(8)}.part")
    try:
        with partial.create(mode) as opened:
            write_all(opened, content)
        partial.rename_over(place)
    except BaseException:
        with suppress(OSError):
            partial.remove()
        raise


def replace_text(file: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace the content of one of the program's own files atomically, never through a link."""
    with place_of(file.parent, file.name) as place:
        replace_file(place, text.encode(), mode=mode)


def created_anew(file: Path) -> FileIO:
    """Create one of the program's own files (0600) and open it; an existing file or link of that path is removed."""
    with place_of(file.parent, file.name) as place:
        place.remove()
        return place.create(0o600)


@contextmanager
def appending(place: Place) -> Generator[FileIO]:
    """Open one of the program's own files to append to it, creating it if missing. Raises OSError, ELOOP for a link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(place.name, flags, 0o666, dir_fd=place.folder)
    with FileIO(descriptor, "ab") as opened:
        check_regular(descriptor, place.name)
        yield opened


@contextmanager
def appending_to(file: Path) -> Generator[FileIO]:
    """Like `appending`, for the path of a file."""
    with place_of(file.parent, file.name) as place, appending(place) as opened:
        yield opened


def write_all(opened: FileIO, content: bytes | memoryview) -> None:
    """Write all of `content` to an unbuffered file, whose `write` may accept only a part at a time."""
    left = memoryview(content)
    while left:
        left = left[opened.write(left) :]


def copy_content(source: FileIO | BufferedReader, copy: FileIO) -> None:
    """Copy everything from the current position of `source`."""
    while block := source.read(COPY_BYTES):
        write_all(copy, block)


def remove_tree(folder: int, name: str) -> None:
    """Remove a folder with everything in it, or a file or link; no link is followed."""
    try:
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if is_folder:
        shutil.rmtree(name, dir_fd=folder)
    else:
        Place(folder, name).remove()


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPENAT2 = 437  # its number on x86, Arm, POWER, s390 and RISC-V
_RESOLVE = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS
_NOT_HERE = frozenset({errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EINVAL, errno.EAGAIN})
"""No such call, a sandbox forbids it, or a folder was renamed meanwhile: opening step by step gives the exact error."""
_libc_syscall = getattr(ctypes.CDLL(None, use_errno=True), "syscall", None) if sys.platform == "linux" else None


def _openat2(root: int, name: str, flags: int) -> int | None:
    """Return a descriptor, or None if the path has to be opened step by step. Raises OSError."""
    if _libc_syscall is None:
        return None
    how = _How(flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE)
    opened = _libc_syscall(_OPENAT2, root, ctypes.c_char_p(os.fsencode(name)), ctypes.byref(how), ctypes.sizeof(how))
    if opened >= 0:
        return opened
    if (error := ctypes.get_errno()) in _NOT_HERE:
        return None
    raise OSError(error, os.strerror(error), name)
