"""The interface of every store that a remote inbox can be in, and the errors that a store raises.

Names are paths below the inbox, with `/`.
"""

import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sensors.files.beneath import Identity
from sensors.runtime.loop import RetryLaterError

CONNECT_SECONDS = 10.0
CALL_SECONDS = 30.0
"""How long a store may take for one response, one block of a file included."""
BLOCK_BYTES = 8 * 2**20
"""How much of a file is in memory at a time."""


class StoreError(RetryLaterError):
    """The store cannot do what was requested; the message says why and what to do, without credentials."""


class PartlyError(StoreError):
    """A folder below the inbox cannot be listed; everything else was."""


class ChangedError(Exception):
    """The file is no longer the one that was to be read."""


class ClaimResult(StrEnum):
    """Result of claiming a file."""

    HELD = "held"
    CHANGED = "changed"
    GONE = "gone"  # its owner removed it, or another sensor has it


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One entry of a listing: its path below the inbox, and what a stat of it would say."""

    name: str
    identity: Identity
    kind: int = stat.S_IFREG
    version: str = ""
    """Identifies the content of an object: its ETag, or its generation or time in a store without ETags."""
    is_claimed: bool = False
    """Whether another sensor is taking it."""

    @property
    def status(self) -> os.stat_result:
        """The kind, size and time as a stat, for rules that were written for local files."""
        seconds = self.identity.mtime_ns // 10**9
        return os.stat_result((self.kind | 0o600, 0, 0, 1, 0, 0, self.identity.size, seconds, seconds, seconds))


@dataclass(frozen=True, slots=True)
class Claim:
    """A file that a sensor is taking, or was when it died: its original name, its identity, the claim's token."""

    name: str
    identity: Identity
    token: str


def remote_identity(size: int, changed: datetime | None, version: str = "") -> Identity:
    """Return the identity of a remote file, which has no device and inode.

    The device is 0, which no real device has, and the inode is a digest of the store's version of the content.
    """
    digest = hashlib.sha256(version.encode()).digest()[:8] if version else b""
    # Whole seconds: the precision of a store's times differs from one response to another.
    return Identity(0, int.from_bytes(digest), size, int(changed.timestamp()) * 10**9 if changed else 0)


class Store(Protocol):
    """One folder of a store. All calls raise StoreError if the store fails, PermissionError for a single file."""

    appears_whole: bool
    """Whether a file appears only once all of it is there."""

    def listing(self, *, subfolders: bool) -> Iterator[RemoteFile]: ...
    def find(self, name: str) -> RemoteFile | None: ...
    def hold(self, name: str, identity: Identity, token: str) -> ClaimResult:
        """Claim a file, so that no other sensor takes it; a claim with the same token is our own. Safe to repeat."""
        ...

    def read(self, name: str, identity: Identity, token: str) -> Iterator[bytes]:
        """Yield the content of a claimed file. Raises ChangedError."""
        ...

    def is_whole(self, name: str, identity: Identity, token: str) -> bool:
        """Return whether the content that was read is that of the claimed file."""
        ...

    def release(self, name: str, identity: Identity, token: str) -> None:
        """Give a claimed file back."""
        ...

    def remove(self, name: str, identity: Identity, token: str) -> None:
        """Delete a file whose copy is on the disk, unless it was replaced meanwhile; then its claim. Safe to repeat."""
        ...

    def read_file(self, name: str, identity: Identity) -> Iterator[bytes]:
        """Yield the content of an unclaimed file. Raises ChangedError."""
        ...

    def delete_file(self, name: str) -> None:
        """Delete an unclaimed file, if it exists."""
        ...

    def claims(self, *, subfolders: bool) -> Iterator[Claim]:
        """Yield the claims of all sensors."""
        ...

    def put(self, source: str, name: str) -> None:
        """Upload a local file, which appears only once it is complete. Raises FileExistsError."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ErrorTranslator:
    """Turns the errors of one store's library into StoreErrors, in plain words and without credentials."""

    where: str
    """The store's URL."""
    secrets: frozenset[str] = frozenset()

    @contextmanager
    def __call__(self, *, let_through: tuple[type[Exception], ...] = ()) -> Generator[None]:
        """Run the block; raises StoreError for any error that it raises, except those in `let_through`."""
        try:
            yield
        except (StoreError, ChangedError, *let_through):
            raise
        except Exception as error:  # noqa: BLE001 - each library has errors of its own; in any case the files are safe
            raise self.store_error(error) from None  # its traceback may quote what was sent

    def store_error(self, error: Exception) -> StoreError:
        """Return the StoreError that describes an error."""
        said = " ".join(str(error).split()) or type(error).__name__
        for secret in self.secrets:
            said = said.replace(secret, "***")
        return StoreError(f"{self.where}: {self._why(error)} ({said:.300})")

    @staticmethod
    def _why(error: Exception) -> str:
        names = {one.__name__ for one in type(error).__mro__}
        if "HostKeyNotVerifiable" in names:
            return (
                "the server's key is not known, so it may be another one; compare its fingerprint"
                " (`ssh-keygen -lf` on the server), then add the key to known_hosts with `ssh-keyscan`"
            )
        if names & {"PermissionError", "PermissionDenied", "NoCredentialsError", "SFTPPermissionDenied"}:
            return "it does not let us in or refuses what is needed; check the credentials and permissions"
        if "FileNotFoundError" in names:
            return "there is no such bucket or folder; make it, or set another `url`"
        if names & {"TimeoutError", "FSTimeoutError"}:
            return "it does not answer in time"
        return "it cannot be reached, or refuses; it is tried again"
