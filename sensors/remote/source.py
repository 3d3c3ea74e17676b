"""Take remote files: claim each, copy it to its permanent path, and then delete it from the store.

All steps can be repeated after a crash. A copy is at its path only when it is complete and on the disk, so a file that
is there only has to be deleted from the store; before that, it is claimed and copied again.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sensors.arrivals.blocked import Permissions
from sensors.arrivals.move import Move, can_be_written, claim_token
from sensors.config.inboxes import Inbox
from sensors.files.beneath import created_anew, write_all
from sensors.files.durability import sync_folder
from sensors.ledger.files import WaitingFile
from sensors.remote.store import ChangedError, ClaimResult, Store, StoreError
from sensors.runtime.crash_points import kill_point

logger = logging.getLogger(__name__)

_MEND = "let the sensor's user read, rename and delete there"
AT_ONCE = 8
"""How many files are copied at the same time: most of the time is spent waiting for responses."""


def _no_beat() -> None:
    pass


@dataclass
class RemoteSource:
    """The store of one inbox, as a source of files."""

    inbox: Inbox
    store: Store
    beat: Callable[[], None] = _no_beat
    """Called whenever a long step has made progress."""
    blocked: dict[str, str] = field(default_factory=dict[str, str])
    """Why files cannot be taken, by their names; they wait."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def take_all(
        self, files: Sequence[WaitingFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[WaitingFile, Move]]:
        """Take files into an arrival's folder, several at a time; raises StoreError, or OSError for the local disk."""
        for file in files:
            self.blocked.pop(file.name, None)
        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(files))), "taking") as threads:
            moves = [threads.submit(self._take, file, folder, done_file, first) for file in files]
            try:
                for file, move in zip(files, moves, strict=True):
                    yield file, move.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def sync_sources(self, files: Sequence[WaitingFile]) -> None:
        """Do nothing: a store makes its own changes durable."""

    def digest(self, file: WaitingFile) -> str | None:
        """Return the SHA-256 of a settled file, which is read for it; None if the file has changed."""
        digest = hashlib.sha256()
        try:
            for block in self.store.read_file(file.name, file.identity):
                digest.update(block)
                self._go_on()
            found = self.store.find(file.name)
        except (ChangedError, PermissionError):
            return None
        return digest.hexdigest() if found is not None and found.identity == file.identity else None

    def permissions_of(self, path: str) -> Permissions:
        """Return None: no store says in advance what it would refuse."""
        return None

    def forget_all_but(self, names: Set[str]) -> None:
        """Forget the blocked files that are not there any more."""
        for name in self.blocked.keys() - names:
            del self.blocked[name]

    def stop(self) -> None:
        """Stop copies in progress at their next block; they are repeated after the next start."""
        self._stopping.set()
        self.store.close()

    # -- one file

    def _take(self, file: WaitingFile, folder: Path, done_file: str | None, first: bool) -> Move:
        self._go_on()
        self._check_place(file)
        token = claim_token(file, file.blocked_as or folder.name)
        target = folder / file.name
        try:
            if first or not os.path.lexists(target):
                move = self._bring(file, target, token)
                if move is not Move.STAGED:
                    return move
        except PermissionError as error:
            if not can_be_written(folder):
                raise
            return self._block(file, token, f"it may not be read or claimed there: {error}; {_MEND}")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            # In an object store `a.csv` and `a.csv/b.csv` can both be files; here the next arrival takes one of them.
            return self._block(file, token, "another file of the arrival has the name of its folder; it is taken next")
        try:
            self.store.remove(file.name, file.identity, token)
        except PermissionError as error:
            if not self.store.is_whole(file.name, file.identity, token):
                raise StoreError(f"{self.inbox.at(file.name)} is copied but cannot be deleted: {error}") from None
            target.unlink()  # else it would be loaded again and again
            return self._block(file, token, f"it may not be deleted there once it is copied: {error}; {_MEND}")
        if done_file:
            try:
                self.store.delete_file(file.name + done_file)
            except PermissionError as error:
                logger.warning("%s is done with, and cannot be deleted: %s", file.name + done_file, error)
        return Move.STAGED

    def _check_place(self, file: WaitingFile) -> None:
        if str(file.path) != str(Path(self.inbox.at(file.name))):
            raise StoreError(
                f"{file.name} was being taken from {file.path} when the inbox {self.inbox.name!r} was changed to"
                f" {self.inbox.where}; set it back until `just status` shows nothing in flight"
            )

    def _bring(self, file: WaitingFile, target: Path, token: str) -> Move:
        held = self.store.hold(file.name, file.identity, token)
        if held is not ClaimResult.HELD:
            return Move.GONE if held is ClaimResult.GONE else Move.CHANGED
        kill_point("taken")
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            is_whole = self._copy(file, part, token) and self.store.is_whole(file.name, file.identity, token)
            if is_whole:
                kill_point("copied")
                part.rename(target)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        if not is_whole:
            part.unlink(missing_ok=True)
            self.store.release(file.name, file.identity, token)
            return Move.CHANGED
        sync_folder(target.parent)
        kill_point("copy-in-place")
        return Move.STAGED

    def _copy(self, file: WaitingFile, part: Path, token: str) -> bool:
        """Copy a claimed file; return whether all of it was there."""
        size = 0
        try:
            with created_anew(part) as copy:
                for block in self.store.read(file.name, file.identity, token):
                    size += len(block)
                    write_all(copy, block)
                    self._go_on()
                os.utime(copy.fileno(), ns=(file.identity.mtime_ns, file.identity.mtime_ns))
                os.fsync(copy.fileno())
        except ChangedError:
            return False
        return size == file.identity.size

    def _block(self, file: WaitingFile, token: str, why: str) -> Move:
        """Let one file wait, so that it delays no other."""
        self.blocked[file.name] = why
        with suppress(PermissionError):  # the claim stays ours, and the next attempt repeats it
            self.store.release(file.name, file.identity, token)
        return Move.BLOCKED

    def _go_on(self) -> None:
        self.beat()
        if self._stopping.is_set():
            raise StoreError(f"{self.inbox.where}: the sensor stops")
