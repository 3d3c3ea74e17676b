"""Check the credentials of a request, limit failed log-ins by client address, and record log-ins.

The drop page and the front of Prefect's API use the same checks. A client address has a burst of failed log-ins, then
one every two seconds. Over the limit it gets 429 and its credentials are not checked. One client's guesses lock out no
client with another address. On the loopback, processes of our own user are exempt.
"""

import fcntl
import getpass
import ipaddress
import json
import logging
import math
import os
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from starlette.types import Scope

from sensors.access.accounts import Account, Visitor, find_account, same
from sensors.access.origins import Rejection, is_loopback

# Record which user did what to the system, one JSON object a line, in `logs/audit.log` (0600).
#
# Every process of the stack and every command appends to the same file, each line by one write under a lock. If a
# line cannot be written, the action is carried out all the same, and the line goes to the process's own log as an
# error (docs/security.md).

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


_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def is_our_own(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Return whether a process of our user is the client of a connection on this machine; False if unknown."""
    wanted = (_kernel_form(client), _kernel_form(server))
    try:
        return any(_owner(Path(table), wanted) == os.getuid() for table in _TABLES)
    except (OSError, ValueError, IndexError):  # not Linux, or the tables may not be read
        return False


def _owner(table: Path, wanted: tuple[set[str], set[str]]) -> int | None:
    for line in table.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] in wanted[0] and fields[2] in wanted[1]:
            return int(fields[7])
    return None


def _kernel_form(end: tuple[str, int]) -> set[str]:
    """Return an address and port as /proc/net writes them: 32-bit words in native byte order, IPv4 also as IPv6."""
    address = ipaddress.ip_address(end[0].partition("%")[0])
    forms = [address.packed]
    if isinstance(address, ipaddress.IPv4Address):
        forms.append(b"\0" * 10 + b"\xff\xff" + address.packed)
    return {f"{_words(form)}:{end[1]:04X}" for form in forms}


def _words(packed: bytes) -> str:
    parts = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(part, sys.byteorder):08X}" for part in parts)


BURST = 10
"""Failed log-ins of an address before the limit applies."""
SECONDS_EACH = 2.0
"""The pause after which an address over its limit has another attempt."""
MOST_ADDRESSES = 10_000
"""How many addresses are kept, about 2 MB; beyond that the address whose last failure is oldest is dropped."""


class Throttle:
    """Counts failed log-ins in a leaky bucket for each address; used from one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def seconds_to_wait(self, address: str) -> float:
        """Return the seconds after which an address may try again; 0 if it may now."""
        empty_at = self._empty_at.get(network_of(address), -math.inf)
        return max(0.0, empty_at - self._clock() - (BURST - 1) * SECONDS_EACH)

    def note_failure(self, address: str) -> bool:
        """Count a failed log-in; return whether the address has just reached its limit."""
        network, now = network_of(address), self._clock()
        was_free = self.seconds_to_wait(address) == 0
        self._empty_at[network] = max(self._empty_at.pop(network, now), now) + SECONDS_EACH
        if len(self._empty_at) > MOST_ADDRESSES:
            self._empty_at.popitem(last=False)
        return was_free and self.seconds_to_wait(address) > 0

    def __len__(self) -> int:
        """Return how many addresses are kept."""
        return len(self._empty_at)


def network_of(address: str) -> str:
    """Return the address or network that counts as one client: an IPv4 address, or an IPv6 customer's /64.

    >>> network_of("10.0.0.5"), network_of("2001:db8::1:2:3:4"), network_of("::ffff:10.0.0.5")
    ('10.0.0.5', '2001:db8::/64', '10.0.0.5')
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return address if found.is_loopback else str(ipaddress.ip_network((found, 64), strict=False))


RECORDED_AGAIN_SECONDS = 3600.0
"""Every request carries credentials; a log-in is recorded once in this time for each user and address."""
MOST_RECORDED = 2_000

T = TypeVar("T", Account, Visitor)
Client = tuple[str, int]
"""A client's address and port, as ASGI has them."""


@dataclass
class LogIns:
    """Checks the credentials of requests to one service; used from one thread."""

    accounts: Sequence[Account]
    audit: Audit
    clock: Callable[[], float]
    """Monotonic seconds."""
    service: str
    """The name of the service in the audit log: `page` or `api`."""
    _recorded: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict[tuple[str, str], float])

    def __post_init__(self) -> None:
        self.throttle = Throttle(self.clock)

    def check(self, given: bytes, client: Client, server: Client) -> Account | Rejection | None:
        """Return the account of `user:password`, None if there is none, or the rejection of an address over its limit.

        Over the limit, credentials are checked only for processes of our own user on this machine: the worker and the
        sensor share their address with every local user, and can read the credentials anyway.
        """
        user = given.partition(b":")[0].decode("utf-8", "backslashreplace")
        # An unknown user name is not recorded: it may be a password typed into the wrong field.
        known = user if any(user == one.user for one in self.accounts) else "unknown"
        return self._check(lambda: find_account(given, self.accounts), known, client, server)

    def check_token(
        self, given: str, expected: str, visitor: Visitor, client: Client, server: Client
    ) -> Visitor | Rejection | None:
        """Return the visitor of a token, None or a rejection, as `check` does for an account."""
        return self._check(lambda: visitor if same(given.encode(), expected) else None, visitor.name, client, server)

    def _check(self, find: Callable[[], T | None], user: str, client: Client, server: Client) -> T | Rejection | None:
        seconds = self.throttle.seconds_to_wait(client[0])
        if seconds and not (is_loopback(client[0]) and is_our_own(client, server)):
            return _limited(client, seconds)
        if (found := find()) is not None:
            self._succeeded(user, client)
            return found
        if seconds:
            return _limited(client, seconds)
        self._failed(user, client)
        return None

    def _succeeded(self, user: str, client: Client) -> None:
        """Record a log-in, if it is the first of this user and address in `RECORDED_AGAIN_SECONDS`."""
        key, now = (user, client[0]), self.clock()
        at = self._recorded.pop(key, None)
        is_new = at is None or now - at >= RECORDED_AGAIN_SECONDS
        self._recorded[key] = now if at is None or is_new else at
        if len(self._recorded) > MOST_RECORDED:
            self._recorded.popitem(last=False)
        if is_new:
            self.audit.record(Action.LOG_IN, user, client[0], service=self.service)

    def _failed(self, user: str, client: Client) -> None:
        self.audit.record(Action.LOG_IN_FAILED, user, client[0], service=self.service)
        logger.warning("failed log-in to the %s from %s", self.service, client[0])
        if self.throttle.note_failure(client[0]):
            self.audit.record(Action.LOG_INS_LIMITED, user, client[0], service=self.service)
            logger.warning("too many failed log-ins to the %s from %s: limited now", self.service, client[0])


def _limited(client: Client, seconds: float) -> Rejection:
    whole = math.ceil(seconds)
    return Rejection(429, f"too many failed log-ins from {client[0]}; try again in {whole} s", whole)


UNKNOWN: Client = ("unknown", 0)


def headers_of(scope: Scope) -> dict[str, str]:
    """Return an ASGI request's headers by name; of a repeated header, which no browser or proxy sends, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def client_of(scope: Scope) -> Client:
    """Return the client's address and port of an ASGI request."""
    return _end(scope.get("client"))


def server_of(scope: Scope) -> Client:
    """Return the address and port that the client of an ASGI request connected to."""
    return _end(scope.get("server"))


def _end(end: tuple[str, int | None] | None) -> Client:
    return UNKNOWN if end is None else (end[0], end[1] or 0)


def retry_after(rejection: Rejection) -> dict[str, str]:
    """Return the Retry-After header of a rejection; empty if the rejection names no time."""
    return {"Retry-After": str(rejection.seconds)} if rejection.seconds else {}
