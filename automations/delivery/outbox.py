"""Outbox: an SQLite file of alerts, shared by the server's notification block and the sensor's dispatcher.

Beside it is the record of alerts that were sent while it could not be written.
"""

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from automations.sqlite_file import SqliteFile

ALIVE_SECONDS = 10.0
"""A dispatcher that has not reported for this long does not count as running."""


class OutboxError(Exception):
    """The outbox cannot be used; the message says why."""


class Outbox(SqliteFile):
    """One connection to the outbox; every thread opens its own."""

    PACKAGE = "automations.delivery"
    VERSION = 3
    BUSY_SECONDS = 10.0

    def __init__(self, path: Path) -> None:
        """Open the outbox; if it does not exist, create it, readable by its owner only. Raises OutboxError."""
        super().__init__(path)
        self._alive = path.with_name(f"{path.name}.alive")
        try:
            self._open("rwc")
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"the outbox of alerts at {path} cannot be opened: {error}; check the disk and the folder's "
                "permissions; if it is corrupt, move it away: every alert is in the log of alerts as well"
            ) from error

    def changes_of_others(self) -> int:
        """Return a number that changes when another connection has changed something."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def record_heartbeat(self) -> None:
        """Report that a dispatcher is running and delivers what is posted."""
        descriptor = os.open(self._alive, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def has_dispatcher(self, now: datetime) -> bool:
        """Return whether a dispatcher has reported lately that it is running."""
        try:
            said = self._alive.stat().st_mtime
        except OSError:
            return False
        # A report from the future does not count: the clock was set back, and the dispatcher may have died since.
        return abs(now.timestamp() - said) < ALIVE_SECONDS

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the path is still the one that was opened, not moved away or replaced."""
        try:
            return super().is_in_place
        except OSError:
            return False


# Record of alerts sent while the outbox could not be written, so that no process sends them twice.
#
# It is a file beside the outbox with a fixed size: its blocks are allocated while there is room, and overwriting them
# works on a full disk. It uses no database, so a locked or corrupt outbox does not affect it. If the file cannot be
# written either (a read-only file system), the record is kept in memory, for this process only.

SLOTS = 1024
"""How many deliveries are remembered; a new one replaces the oldest."""
CLAIM_SECONDS = 60.0
"""How long a claim on a delivery holds; after that, the claiming process must have been killed."""
_SIZE = 64
_EMPTY = b" " * (_SIZE - 1) + b"\n"
_Slot: TypeAlias = tuple[str, tuple[str, float]]
"""The key of a delivery, its state, and the time of that state."""
_CLAIMED, _SENT, _PERHAPS = "claimed", "sent", "perhaps"


class SentRecord:
    """Deliveries, each an alert on a channel, that the outbox does not know of."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`, which `prepare` creates."""
        self.path = path
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def prepare(self) -> None:
        """Allocate the file, readable by its owner only, while the disk has room for it; best effort."""
        with suppress(OSError), self._opened(create=True) as file:
            if os.fstat(file).st_size < SLOTS * _SIZE:
                os.pwrite(file, _EMPTY * SLOTS, 0)
                os.fsync(file)

    def claim(self, cause: str, channel: str, now: datetime) -> bool:
        """Claim a delivery for this process; False if it was sent, or if a process is sending it now."""
        key, at = _key(cause, channel), now.timestamp()
        with self._lock:
            known = self._memory.get(key)
            with suppress(OSError), self._opened() as file:
                slots = _read(file)
                known = _newer(known, dict(slots).get(key))
                if _is_taken(known, at):
                    return False
                _write(file, slots, key, _CLAIMED, at)
            if _is_taken(known, at):
                return False
            self._remember(key, _CLAIMED, at)
        return True

    def record_sent(self, cause: str, channel: str, now: datetime) -> None:
        """Record that a channel has taken an alert."""
        self._record(_key(cause, channel), _SENT, now.timestamp())

    def record_perhaps_sent(self, cause: str, channel: str, now: datetime) -> None:
        """Record that an alert was sent to a channel without an answer; further claims on it fail."""
        self._record(_key(cause, channel), _PERHAPS, now.timestamp())

    def release(self, cause: str, channel: str) -> None:
        """Release a claim: the channel did not take the alert."""
        key = _key(cause, channel)
        with self._lock:
            self._memory.pop(key, None)
            with suppress(OSError), self._opened() as file:
                number = _number(_read(file), key)
                if number is not None:
                    _overwrite(file, number, _EMPTY)

    def was_sent(self, cause: str, channel: str) -> bool:
        """Return whether a channel has taken an alert, according to this record."""
        return self._holds(cause, channel, _SENT)

    def was_perhaps_sent(self, cause: str, channel: str) -> bool:
        """Return whether an alert was sent to a channel without an answer."""
        return self._holds(cause, channel, _PERHAPS)

    def _holds(self, cause: str, channel: str, state: str) -> bool:
        key = _key(cause, channel)
        with self._lock:
            if self._memory.get(key, ("", 0.0))[0] == state:
                return True
            with suppress(OSError), self._opened() as file:
                return f"{key} {state} ".encode("ascii") in os.pread(file, SLOTS * _SIZE, 0)
        return False

    def _record(self, key: str, state: str, at: float) -> None:
        with self._lock:
            self._remember(key, state, at)
            with suppress(OSError), self._opened() as file:
                _write(file, _read(file), key, state, at)

    def _remember(self, key: str, state: str, at: float) -> None:
        self._memory[key] = (state, at)
        self._memory.move_to_end(key)
        while len(self._memory) > SLOTS:
            self._memory.popitem(last=False)

    @contextmanager
    def _opened(self, *, create: bool = False) -> Generator[int]:
        """Open the file with a lock that excludes all other processes."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        file = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


@lru_cache(maxsize=16)
def sent_record(outbox: Path) -> SentRecord:
    """Return this process's record for an outbox."""
    return SentRecord(outbox.with_name(f"{outbox.name}.sent"))


def _key(cause: str, channel: str) -> str:
    return hashlib.sha256(f"{cause}\0{channel}".encode(errors="surrogatepass")).hexdigest()[:32]


def _is_taken(known: tuple[str, float] | None, at: float) -> bool:
    # A claim from the future dates from a clock that was since set back, and counts as an old one.
    return known is not None and (known[0] != _CLAIMED or 0 <= at - known[1] < CLAIM_SECONDS)


def _newer(one: tuple[str, float] | None, other: tuple[str, float] | None) -> tuple[str, float] | None:
    if one is None or other is None:
        return one or other
    return one if one[0] == _SENT or (other[0] != _SENT and one[1] >= other[1]) else other


def _read(file: int) -> list[_Slot]:
    """Return the content of each slot; a slot that cannot be read counts as empty and very old."""
    data = os.pread(file, SLOTS * _SIZE, 0)
    return [_parse(data[at : at + _SIZE]) for at in range(0, len(data) - _SIZE + 1, _SIZE)]


def _parse(slot: bytes) -> _Slot:
    words = slot.decode("ascii", "replace").split()
    try:
        key, state, at = words
        return key, (state, float(at))
    except ValueError:
        return "", ("", 0.0)


def _number(slots: Sequence[_Slot], key: str) -> int | None:
    return next((number for number, slot in enumerate(slots) if slot[0] == key), None)


def _write(file: int, slots: Sequence[_Slot], key: str, state: str, at: float) -> None:
    """Overwrite the slot of this delivery, or else the oldest slot; the file never grows."""
    number = _number(slots, key)
    if number is None and slots:  # a file that was not allocated must not start to grow now
        number = min(range(len(slots)), key=lambda index: slots[index][1][1])
    if number is not None:
        _overwrite(file, number, f"{key} {state} {at:.3f}".ljust(_SIZE - 1).encode("ascii") + b"\n")


def _overwrite(file: int, number: int, slot: bytes) -> None:
    os.pwrite(file, slot, number * _SIZE)
