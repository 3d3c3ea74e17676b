"""What a remote inbox needs of a store, whichever it is; names are paths below the inbox, with `/`."""

import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sensors.files.identity import Identity
from sensors.runtime.loop import PausingError

CONNECT_SECONDS = 10.0
CALL_SECONDS = 30.0
"""How long a store may take for one answer, one block of a file included."""
BLOCK_BYTES = 8 * 2**20
"""How much of a file is in memory at a time."""


class StoreError(PausingError):
    """The store does not do what it is asked; the message says why and what to do, and no credentials."""


class PartlyError(StoreError):
    """A folder below the inbox cannot be listed; all else was."""


class ChangedError(Exception):
    """The file is not the one any more that was to be read."""


class Hold(StrEnum):
    """What came of claiming a file."""

    HELD = "held"
    CHANGED = "changed"
    GONE = "gone"  # its owner took it away, or another sensor has it


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One entry of a listing: its path below the inbox, and what a stat of it would say."""

    name: str
    identity: Identity
    kind: int = stat.S_IFREG
    version: str = ""
    """The ETag of an object."""
    is_claimed: bool = False
    """Whether another sensor is taking it."""

    @property
    def status(self) -> os.stat_result:
        """The kind, size and time as a stat, for rules that were made for local files."""
        seconds = self.identity.mtime_ns // 10**9
        return os.stat_result((self.kind | 0o600, 0, 0, 1, 0, 0, self.identity.size, seconds, seconds, seconds))


@dataclass(frozen=True, slots=True)
class Claim:
    """A file that some sensor is taking, or was when it died: its own name, who it is, and the claim's token."""

    name: str
    identity: Identity
    token: str


def remote_identity(size: int, changed: datetime | None, version: str = "") -> Identity:
    """Return what makes a remote file that file: it has no device and inode.

    In their place stand 0, which no device has, and what the store calls the version of the content, digested.
    """
    digest = hashlib.sha256(version.encode()).digest()[:8] if version else b""
    # Whole seconds: a store tells more of them in one answer than in another.
    return Identity(0, int.from_bytes(digest), size, int(changed.timestamp()) * 10**9 if changed else 0)


class Store(Protocol):
    """One folder of a store. All calls raise StoreError when it does not answer, PermissionError for one file."""

    appears_whole: bool
    """Whether a file is there only when all of it is."""

    def listing(self, *, subfolders: bool) -> Iterator[RemoteFile]: ...
    def find(self, name: str) -> RemoteFile | None: ...
    def hold(self, name: str, identity: Identity, token: str) -> Hold:
        """Claim a file, so that no other sensor takes it; a claim with the same token is our own. Safe to repeat."""
        ...

    def read(self, name: str, identity: Identity, token: str) -> Iterator[bytes]:
        """Yield the content of a file that is held. Raises ChangedError."""
        ...

    def is_whole(self, name: str, identity: Identity, token: str) -> bool:
        """Tell whether what was read is the file that was claimed."""
        ...

    def release(self, name: str, identity: Identity, token: str) -> None:
        """Give a claimed file back."""
        ...

    def remove(self, name: str, identity: Identity, token: str) -> None:
        """Take away a file whose copy is on the disk, unless it is another one by now; then the claim. Repeatable."""
        ...

    def read_lying(self, name: str, identity: Identity) -> Iterator[bytes]:
        """Yield the content of a file that lies there unclaimed. Raises ChangedError."""
        ...

    def remove_lying(self, name: str) -> None:
        """Delete a file that lies there, if it does."""
        ...

    def claims(self, *, subfolders: bool) -> Iterator[Claim]:
        """Yield what is claimed, by whoever."""
        ...

    def put(self, source: str, name: str) -> None:
        """Upload a local file, so that it is there only when it is whole. Raises FileExistsError."""
        ...

    def close(self) -> None: ...


# Asking a store: whatever goes wrong is told as a StoreError, in words and without credentials.


@dataclass(frozen=True)
class Asking:
    """How the troubles of one store are told."""

    where: str
    """Its URL."""
    secrets: frozenset[str] = frozenset()

    @contextmanager
    def __call__(self, *, let_through: tuple[type[Exception], ...] = ()) -> Generator[None]:
        """Do what is inside; raises StoreError for what it raises, unless it is to be let through."""
        try:
            yield
        except (StoreError, ChangedError, *let_through):
            raise
        except Exception as error:  # noqa: BLE001 - each library has its own; whatever it is, the files are safe
            raise self.told(error) from None  # its traceback may quote what was sent

    def told(self, error: Exception) -> StoreError:
        """Return what is told of an error."""
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
