"""Retries, explanations and notices for files that the sensor may not move out of their inbox."""

import errno
import grp
import heapq
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sensors.config.inboxes import Inbox
from sensors.ledger.files import BlockedFile
from sensors.ledger.notices import Notice, first_lines
from sensors.runtime.text import counted, readable

EVENT = "inbox.files.waiting"
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds between two attempts: doubled after each failure, up to the longest."""
REPORT_AFTER = timedelta(seconds=10)
"""Some programs set a file's owner and mode only after renaming it into the inbox."""
LOOK_SECONDS = 5.0
LOOKED_AT = 100
"""How often, and for how many blocked files, permissions are checked, so that a file whose permissions were corrected
does not wait for its next attempt. A check costs three system calls per file."""

Permissions = tuple[object, ...] | None


def pause_after(attempts: int) -> float:
    """Return the seconds until the next attempt after this number of failed ones.

    >>> [pause_after(attempts) for attempts in (1, 2, 3, 7, 100)]
    [5.0, 10.0, 20.0, 300.0, 300.0]
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 10))


@dataclass
class _Blocked:
    attempts: int
    due: float
    permissions: Permissions


@dataclass
class BlockedFiles:
    """Schedule of the next attempts for the blocked files of one inbox, by name; times are monotonic seconds."""

    permissions_of: Callable[[str], Permissions]
    """Returns the permissions that decide whether a file may be moved, as far as they are cheap to read."""
    _files: dict[str, _Blocked] = field(default_factory=dict[str, _Blocked], init=False)
    _due: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]], init=False)
    _look_due: float = field(default=0.0, init=False)

    def note(self, names: Iterable[str], now: float) -> None:
        """Record a failed attempt to move these files."""
        for name in names:
            before = self._files.get(name)
            attempts = before.attempts + 1 if before else 1
            due = now + pause_after(attempts)
            self._files[name] = _Blocked(attempts, due, self.permissions_of(name))
            heapq.heappush(self._due, (due, name))
            self._look_due = min(self._look_due, now + LOOK_SECONDS) if self._look_due > now else now + LOOK_SECONDS

    def forget(self, names: Iterable[str]) -> None:
        """Forget files that were moved or are gone."""
        if self._files:
            for name in names:
                self._files.pop(name, None)

    def take_due(self, now: float) -> list[str]:
        """Return the files to try again now: their pause is over, or their permissions changed."""
        due: dict[str, None] = {}
        while self._due and self._due[0][0] <= now:
            at, name = heapq.heappop(self._due)
            if (known := self._files.get(name)) and known.due == at:
                due[name] = None
        if self._files and now >= self._look_due:
            self._look_due = now + LOOK_SECONDS
            for name in list(self._files)[:LOOKED_AT]:
                known = self._files[name]
                if (found := self.permissions_of(name)) != known.permissions:
                    known.permissions = found
                    due[name] = None
        return list(due)

    @property
    def next_due(self) -> float:
        """The earliest time at which a file may be due; infinity if no file is blocked."""
        if not self._files:
            return float("inf")
        return min(self._look_due, self._due[0][0] if self._due else float("inf"))


def permissions_at(path: str) -> Permissions:
    """Return a value that changes when a move may succeed: the file's change time and its folder's permissions."""
    folder = os.path.dirname(path)  # noqa: PTH120 - called for many files every few seconds
    try:
        file, above = os.lstat(path), os.stat(folder)  # noqa: PTH116
    except OSError as error:
        return (error.errno,)
    return file.st_ctime_ns, above.st_mode, above.st_uid, above.st_gid, above.st_ino, _may_be_changed(folder)


def reason_of(error: OSError, path: Path) -> str:
    """Return why a file may not be moved, followed by `; ` and what to do."""
    return f"{error.strerror or error}: {_explained(error, path)}"


def _explained(error: OSError, path: Path) -> str:
    folder, user = path.parent, _name_of_user(os.geteuid())
    try:
        above, file = folder.stat(), path.lstat()
        is_read_only = error.errno == errno.EROFS or bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return f"the folder {folder} does not say why; see that the user {user} may move files out of it"
    rights = f"{stat.filemode(above.st_mode)} {_owner(above)}"
    if is_read_only:
        return f"the file system of {folder} is mounted read-only; mount it writable"
    if not _may_be_changed(folder):
        return (
            f"the user {user} has no write permission on the folder {folder} ({rights});"
            f" grant it, for instance with `setfacl -m u:{user}:rwx {folder}`"
        )
    if above.st_mode & stat.S_ISVTX and os.geteuid() not in {0, above.st_uid, file.st_uid}:
        return (
            f"the folder {folder} is sticky ({rights}), so only the file's owner {_name_of_user(file.st_uid)}"
            f" may move it, and not {user}; `chmod -t {folder}` lets {user} do so"
        )
    return _OTHER_REASONS.get(error.errno or 0, f"something else is wrong; see that the user {user} may move it")


_UNREADABLE = "the disk or the network folder does not give it; check that, or drop the file again"
_OTHER_REASONS = {
    errno.EIO: _UNREADABLE,
    errno.ESTALE: _UNREADABLE,
    errno.EPERM: "it is protected, perhaps immutable; `lsattr` shows that, and `chattr -ia` removes it",
}


def _may_be_changed(folder: Path | str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def notice_of(inbox: Inbox, files: Sequence[BlockedFile]) -> Notice:
    """Return the notice about an inbox's blocked files."""
    count = len(files)
    first = files[0]
    return Notice(
        key=f"blocked/{inbox.name}/{first.path}/{first.inode}/{first.since.isoformat()}",
        event=EVENT,
        inbox=inbox.name,
        payload={
            "count": count,
            "subject": f"{counted(count, 'file')} cannot be taken from inbox {inbox.name}",
            "text": "\n".join(
                [
                    *first_lines([f"{readable(file.name)}: {file.reason}" for file in files]),
                    f"Where: {readable(inbox.where)}",
                    "Next: mend this; the files are taken by themselves then",
                ]
            ),
        },
    )


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owner(status: os.stat_result) -> str:
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return f"{_name_of_user(status.st_uid)}:{group}"
