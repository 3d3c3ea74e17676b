"""Record which user did what to the system, one JSON object a line, in `logs/audit.log` (0600).

Every process of the stack and every command appends to the same file, each line by one write under a lock. If a line
cannot be written, the action is carried out all the same, and the line goes to the process's own log as an error
(docs/security.md).
"""

import fcntl
import getpass
import json
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

MOST_BYTES = 10_000_000
"""A file that would exceed this is rotated; size and number are the same as for the services' logs."""
KEPT = 3
LONGEST = 500
"""Characters of one value; the rest is cut off, as a client may send any length."""

logger = logging.getLogger(__name__)


class Action(StrEnum):
    """The actions that are recorded."""

    LOG_IN = "log in"
    LOG_IN_FAILED = "log in failed"
    LOG_INS_LIMITED = "log ins limited"
    ROLE_REJECTED = "role rejected"
    UPLOAD = "upload"
    UPLOAD_REJECTED = "upload rejected"
    DROP = "drop"
    RETRY = "retry"
    REPLAY = "replay"
    DISMISS = "dismiss"
    REBUILD = "rebuild"
    RUN = "run"
    CREDENTIALS_ROTATED = "credentials rotated"


@dataclass(frozen=True)
class Audit:
    """Appends to one audit log. No field may contain a credential."""

    path: Path

    def record(self, action: Action, user: str, address: str = "", **details: str | int) -> None:
        """Append one line with the current time; never raises OSError."""
        line = _line(datetime.now(UTC), action, user, address, details)
        try:
            _append(self.path, line)
        except OSError as error:
            logger.error("%s cannot be written (%s); not recorded there: %s", self.path, error.strerror, line.decode())  # noqa: TRY400

    def record_command(self, action: Action, **details: str | int) -> None:
        """Record a command on the terminal, under the user of the operating system."""
        self.record(action, system_user(), "terminal", **details)


def audit_of(logs_dir: Path) -> Audit:
    """Return the audit log in a folder of logs."""
    return Audit(logs_dir / "audit.log")


def system_user() -> str:
    """Return the name of the operating system's user, and of the user that called `sudo`, if any."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        user = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER")
    return f"{user} (sudo by {behind})" if behind and behind != user else user


def _line(at: datetime, action: Action, user: str, address: str, details: Mapping[str, str | int]) -> bytes:
    fields = {"time": at.isoformat(timespec="milliseconds"), "action": action.value, "user": user}
    if address:
        fields["address"] = address
    cut = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in {**fields, **details}.items()}
    # ASCII: no control character, line separator or lone surrogate of a hostile name reaches the file or a terminal.
    return json.dumps(cut, ensure_ascii=True).encode("ascii") + b"\n"


def _append(path: Path, line: bytes) -> None:
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_still(path, descriptor):
                continue  # another process has rotated it meanwhile
            if os.fstat(descriptor).st_size + len(line) > MOST_BYTES:
                _set_aside(path)
                continue
            _make_ours(path, descriptor)
            if os.write(descriptor, line) < len(line):
                raise OSError(28, "only a part of the line could be written")
            return
        finally:
            os.close(descriptor)


def _make_ours(path: Path, descriptor: int) -> None:
    """Make the file private to the owner of its folder: commands run as root must not lock the service out."""
    folder, file = path.parent.stat(), os.fstat(descriptor)
    if not stat.S_ISREG(file.st_mode):
        return  # a device such as /dev/null belongs to everyone
    if os.getuid() == 0 and file.st_uid != folder.st_uid:
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    if stat.S_IMODE(file.st_mode) != 0o600 and os.getuid() in {0, file.st_uid}:
        os.fchmod(descriptor, 0o600)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        there, ours = path.stat(follow_symlinks=False), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _set_aside(path: Path) -> None:
    for number in range(KEPT, 0, -1):
        before = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if before.exists():
            before.replace(path.with_name(f"{path.name}.{number}"))
