"""Keep the state folder private to the user that runs the stack, whatever the umask.

Other users can pass through STATE_DIR itself but not list it (0711), because they may have to reach `inbox/`, whose
folders stay as they are. Everything else in it is 0700 or 0600. Read access alone would do harm: a user who can open
a database's shared memory or a lock file can lock it, and Prefect's database holds its own encryption key.

Nothing here follows a symbolic link: each name is opened relative to its folder's descriptor, and changes are made
through the descriptor. O_PATH, unlike a plain open, keeps the locks that this process has on a database.
"""

import grp
import os
import pwd
import stat
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

UMASK = 0o077
STATE_DIR_MODE = 0o711
ARRIVALS = "arrivals"
WAREHOUSE = "warehouse"
_OPEN = frozenset({"inbox"})
"""The entries of STATE_DIR that are not private."""
_WAREHOUSE_FILES = (".duckdb", ".duckdb.wal")
_LISTED = 5
"""How many files of one kind are named in messages."""
_ACL_OF_NEW_FILES = "system.posix_acl_default"
"""An extended attribute; in a folder that has it the kernel does not apply the umask to new files."""
_PATH = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC

_umasks: list[int] = []
"""The umask with which this process was started; empty until `take_private_umask()`."""


def take_private_umask() -> None:
    """Set the umask so that this process and its children create files and folders for their user alone."""
    before = os.umask(UMASK)
    if not _umasks:
        _umasks.append(before)


def umask_of_caller() -> int:
    """Return the umask with which this process was started."""
    if _umasks:
        return _umasks[0]
    umask = os.umask(UMASK)
    os.umask(umask)
    return umask


def make_shared_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder that other users may have to reach, and its parents, as open as the caller's umask allows.

    With the default mode no other user can write to it. An existing folder stays as it is. Raises OSError.
    """
    if not path.parent.exists():
        make_shared_folder(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    path.chmod(mode & ~umask_of_caller())


def make_state_folder(state_dir: Path) -> None:
    """Make the state folder and the folder of the inboxes. Raises OSError."""
    for folder in (state_dir, state_dir / "inbox"):
        if not folder.exists():
            make_shared_folder(folder)
            folder.chmod(STATE_DIR_MODE)


def group_id(name: str) -> int:
    """Return a group's id. Raises ValueError, saying what to do, if this user cannot give files to the group."""
    try:
        found = grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise ValueError(f"expected the name of a group of this machine; `groupadd {name}` makes it") from None
    if os.geteuid() != 0 and found not in {os.getegid(), *os.getgroups()}:
        user = _name(os.geteuid())
        raise ValueError(f"expected a group that {user} is in; as root `usermod -aG {name} {user}`, and log in again")
    return found


@dataclass(frozen=True)
class Findings:
    """The problems that were found, as messages."""

    dangers: tuple[str, ...] = ()
    """Other users can change files that the stack runs or keeps, and their access could not be removed."""
    notices: tuple[str, ...] = ()


def close_to_others(state_dir: Path, readers: Mapping[str, int] = {}) -> Findings:
    """Remove other users' access to a state folder.

    `readers` holds the ids of the groups that may read the `arrivals` and the `warehouse`. Only these groups are given
    permissions; all others are only removed. Raises OSError when the folder cannot be opened.
    """
    closing = _Closing(readers.get(WAREHOUSE), readers.get(ARRIVALS))
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        closing.state_folder(descriptor, state_dir)
    finally:
        os.close(descriptor)
    return closing.findings()


def writable_by_everyone(paths: Iterable[Path]) -> list[Path]:
    """Return the files and folders among `paths` and below them that every user of this machine can write to.

    The entries of such a folder are not listed as well. Links are not followed.
    """
    found: list[Path] = []
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        if status.st_mode & 0o002 and not stat.S_ISLNK(status.st_mode):
            found.append(path)
        elif stat.S_ISDIR(status.st_mode):
            with suppress(OSError):
                found += writable_by_everyone(sorted(path.iterdir()))
    return found


def share_with_group(folder: Path, names: list[str], group: int) -> None:
    """Let a group read an arrival's folder and the files in it that our user owns. Raises OSError."""
    for shared in (folder.parent, folder):
        _let_read(os.open(shared, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), group)
    for name in names:
        for part in (*(folder / above for above in Path(name).parents if above.name), folder / name):
            with suppress(FileNotFoundError):
                _let_read(os.open(part, _PATH), group)


def _let_read(descriptor: int, group: int) -> None:
    """Let a group read an open file or folder, if our user owns it, and close the descriptor."""
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return
        mode = _mode_for_group(status.st_mode)
        if (status.st_gid, stat.S_IMODE(status.st_mode)) != (group, mode):
            os.chown(_address(descriptor), -1, group)
            os.chmod(_address(descriptor), mode)  # noqa: PTH101 # no path
    finally:
        os.close(descriptor)


def _mode_for_group(mode: int) -> int:
    """Return the mode that gives read access to the group alone; new entries of such a folder get its group."""
    return mode & 0o700 | (0o2050 if stat.S_ISDIR(mode) else 0o040)


def _address(descriptor: int) -> int | str:
    """Return a path or descriptor for `chmod`: fchmod fails on an O_PATH descriptor, chmod of its /proc entry works."""
    return f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else descriptor


@dataclass
class _Closing:
    """One walk through a state folder that removes other users' access and collects what could not be removed."""

    warehouse_readers: int | None
    arrivals_readers: int | None
    _foreign: list[str] = field(default_factory=list[str])
    _writable: list[str] = field(default_factory=list[str])
    _readable: list[str] = field(default_factory=list[str])
    _links: list[str] = field(default_factory=list[str])
    _closed: int = 0

    def state_folder(self, descriptor: int, path: Path) -> None:
        self._is_trusted(path, os.fstat(descriptor))
        self._close(descriptor, path, STATE_DIR_MODE)
        for name in os.listdir(descriptor):
            if name in _OPEN:
                continue
            if name == ARRIVALS:
                self._arrivals(descriptor, path / name)
            elif name.endswith(_WAREHOUSE_FILES) and self.warehouse_readers is not None:
                self._warehouse(descriptor, path / name, self.warehouse_readers)
            else:
                self._entry(descriptor, path / name)

    def _entry(self, folder: int, path: Path) -> None:
        """Close one entry of an open folder, and everything below it."""
        with self._opened(folder, path) as (descriptor, status):
            if descriptor is None or not self._is_trusted(path, status):
                return
            self._close(descriptor, path, 0o700)
            if stat.S_ISDIR(status.st_mode):
                with _listed(descriptor) as (below, names):
                    for name in names:
                        self._entry(below, path / name)

    def _warehouse(self, folder: int, path: Path, group: int) -> None:
        with self._opened(folder, path) as (descriptor, status):
            if descriptor is not None and self._is_trusted(path, status):
                self._close(descriptor, path, 0o740)
                _let_read(os.dup(descriptor), group)

    def _arrivals(self, folder: int, path: Path) -> None:
        """Close the folder of the arrivals; everything below it only if its own mode or group was not as wanted.

        There may be a million entries below it. Files keep the owner and mode with which they were dropped, unless a
        group may read them.
        """
        with self._opened(folder, path) as (descriptor, status):
            if descriptor is None or not self._is_trusted(path, status):
                return
            group = self.arrivals_readers
            wanted = 0o700 if group is None else _mode_for_group(stat.S_IFDIR | 0o700)
            is_as_wanted = stat.S_IMODE(status.st_mode) == wanted and group in {None, status.st_gid}
            if group is None:
                self._close(descriptor, path, 0o700)
            if not is_as_wanted:
                self._below_arrivals(descriptor, path, group)
            if group is not None:
                self._close(descriptor, path, 0o750)
                _let_read(os.dup(descriptor), group)

    def _below_arrivals(self, descriptor: int, path: Path, group: int | None) -> None:
        with _listed(descriptor) as (below, names):
            for name in names:
                with self._opened(below, path / name) as (entry, status):
                    if entry is None or status.st_uid != os.geteuid():
                        continue
                    is_folder = stat.S_ISDIR(status.st_mode)
                    if group is not None:
                        _let_read(os.dup(entry), group)
                    elif is_folder:
                        self._close(entry, path / name, 0o700)
                    if is_folder:
                        self._below_arrivals(entry, path / name, group)

    @contextmanager
    def _opened(self, folder: int, path: Path) -> Generator[tuple[int | None, os.stat_result]]:
        """Open an entry; the descriptor is None for a missing entry and for a link."""
        descriptor = None
        try:
            status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                descriptor = os.open(path.name, _PATH, dir_fd=folder)
                status = os.fstat(descriptor)
        except FileNotFoundError:
            descriptor, status = None, os.stat_result((0,) * 10)
        if stat.S_ISLNK(status.st_mode):
            if descriptor is not None:  # a link replaced the entry after the stat: O_PATH has opened the link itself
                os.close(descriptor)
                descriptor = None
            if self._is_trusted(path, status) and path.is_dir():
                self._links.append(str(path))
        try:
            yield descriptor, status
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _is_trusted(self, path: Path, status: os.stat_result) -> bool:
        """Return whether an entry belongs to our user, or to root, who may do everything anyway; report any other."""
        if status.st_uid in {os.geteuid(), 0}:
            return True
        recursively = "R" if stat.S_ISDIR(status.st_mode) else ""
        self._foreign.append(
            f"STATE_DIR: {path} belongs to {_name(status.st_uid)}, who could change what the stack runs or keeps; "
            f"remove it, or make it yours: chown -h{recursively} {_name(os.geteuid())} {path}"
        )
        return False

    def _close(self, descriptor: int, path: Path, most: int) -> None:
        """Remove all of an entry's permissions beyond `most`, except the owner's."""
        before = os.fstat(descriptor)
        mode = stat.S_IMODE(before.st_mode)
        wanted = mode & most & 0o777 | mode & 0o700
        why = "the file system does not keep permissions"
        if stat.S_ISDIR(before.st_mode):
            with suppress(OSError, AttributeError):  # no such attribute, or a system without extended attributes
                os.removexattr(_address(descriptor), _ACL_OF_NEW_FILES)
        if mode & ~0o2000 == wanted:  # setgid may stay: new entries of the folder get its group
            return
        try:
            os.chmod(_address(descriptor), wanted)  # noqa: PTH101 # no path
            self._closed += 1
        except OSError as error:
            why = error.strerror or type(error).__name__
        self._judge(os.fstat(descriptor), path, wanted, why)

    def _judge(self, status: os.stat_result, path: Path, wanted: int, why: str) -> None:
        left = stat.S_IMODE(status.st_mode) & ~wanted & 0o077
        how = f"as {_name(status.st_uid)} `chmod {wanted:04o} {path}`"
        if left & 0o002 or (left & 0o020 and not _is_ours_alone(status.st_gid)):
            who = "every user of this machine" if left & 0o002 else "a group"
            self._writable.append(
                f"STATE_DIR: {who} can write into {path}, and so change what the stack runs or keeps, and that cannot "
                f"be taken away ({why}); {how}, or set STATE_DIR to a folder of your own"
            )
        elif left:
            self._readable.append(f"STATE_DIR: other users may read {path} ({why}); {how}")

    def findings(self) -> Findings:
        """Return the messages about this walk."""
        notices = [*_first(self._readable)]
        notices += [
            f"STATE_DIR: {link} is a symbolic link; see to it that only your user can read where it leads"
            for link in _first(self._links)
        ]
        if self._closed:
            notices.append(
                f"STATE_DIR: {self._closed} files and folders were open to other users and are private now; if there "
                "are other users, docs/security.md says what they may have read"
            )
        return Findings((*_first(self._foreign), *_first(self._writable)), tuple(notices))


@contextmanager
def _listed(descriptor: int) -> Generator[tuple[int, list[str]]]:
    """Yield a descriptor of a folder to open its entries from, and their names."""
    try:
        below = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    except PermissionError:  # root created it, and neither our user nor others can list it
        yield descriptor, []
        return
    try:
        yield below, os.listdir(below)  # noqa: PTH208 # of a descriptor
    finally:
        os.close(below)


def _is_ours_alone(group: int) -> bool:
    """Return whether a group is our user's own and, as far as this machine knows, has no other member."""
    if group != os.getegid():
        return False
    try:
        return set(grp.getgrgid(group).gr_mem) <= {_name(os.geteuid())}
    except KeyError:
        return True


def _first(lines: list[str]) -> list[str]:
    more = [f"STATE_DIR: and {len(lines) - _LISTED} more such files"] if len(lines) > _LISTED else []
    return [*lines[:_LISTED], *more]


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
