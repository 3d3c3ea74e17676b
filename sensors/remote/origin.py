"""Taking remote files: each is claimed, copied to its permanent address, and then taken away from the store.

Everything can be repeated after a crash. A copy is at its address only when it is whole and on the disk, so a file that
is there needs nothing but to be taken away where it came from; before that, it is claimed and copied again.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sensors.inbox import Inbox
from sensors.killpoint import kill_point
from sensors.ledger.arrivals import ArrivalFile
from sensors.ledger.files import WaitingFile
from sensors.remote.store import ChangedError, Hold, Store, StoreError
from sensors.staging.take import Move, claim_token, sync_folder

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""How many files are copied at the same time: most of it is waiting for answers."""


def _no_beat() -> None:
    pass


@dataclass
class RemoteOrigin:
    """The store of one inbox, as somewhere to take files from."""

    inbox: Inbox
    store: Store
    beat: Callable[[], None] = _no_beat
    """Is called whenever a long step has got on."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """The files that cannot be taken, and why; they wait."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]:
        """Take files into an arrival's folder, some at a time; raises StoreError, or OSError for our own disk."""
        for file in files:
            self.refused.pop(file.name, None)
        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(files))), "taking") as threads:
            moves = [threads.submit(self._take, file, folder, done_file, first) for file in files]
            try:
                for file, move in zip(files, moves, strict=True):
                    yield file, move.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def digest(self, file: WaitingFile) -> str | None:
        """Return the SHA-256 of a file that has settled, which is read for it; None if it is not that file any more."""
        digest = hashlib.sha256()
        try:
            for block in self.store.read_lying(file.name, file.identity):
                digest.update(block)
                self._go_on()
            found = self.store.find(file.name)
        except (ChangedError, PermissionError):
            return None
        return digest.hexdigest() if found is not None and found.identity == file.identity else None

    def forget_all_but(self, names: Set[str]) -> None:
        """Forget the refused files that do not lie there any more."""
        for name in self.refused.keys() - names:
            del self.refused[name]

    def folders_of(self, files: Sequence[ArrivalFile]) -> set[str]:
        """Return no folder: none of this machine has lost a file."""
        return set()

    def stop(self) -> None:
        """Have whatever is under way end with its next block; it is repeated after the next start."""
        self._stopping.set()
        self.store.close()

    # -- one file

    def _take(self, file: ArrivalFile, folder: Path, done_file: str | None, first: bool) -> Move:
        self._go_on()
        self._check_place(file)
        token = claim_token(file, folder.name)
        target = folder / file.name
        try:
            if first or not os.path.lexists(target):
                move = self._bring(file, target, token)
                if move is not Move.STAGED:
                    return move
            self.store.remove(file.name, file.identity, token)
            if done_file:
                self.store.remove_lying(file.name + done_file)
        except PermissionError as error:
            if os.path.lexists(target):
                raise StoreError(f"{self.inbox.at(file.name)} is copied but cannot be deleted: {error}") from None
            return self._leave(file, token, str(error))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            # In an object store `a.csv` and `a.csv/b.csv` can both be files; here the next arrival takes one.
            return self._leave(file, token, "another file of the arrival stands where its folder would")
        return Move.STAGED

    def _check_place(self, file: ArrivalFile) -> None:
        if str(file.path) != str(Path(self.inbox.at(file.name))):
            raise StoreError(
                f"{file.name} was being taken from {file.path} when the inbox {self.inbox.name!r} was changed to"
                f" {self.inbox.where}; set it back until `just status` shows nothing in flight"
            )

    def _bring(self, file: ArrivalFile, target: Path, token: str) -> Move:
        held = self.store.hold(file.name, file.identity, token)
        if held is not Hold.HELD:
            return Move.GONE if held is Hold.GONE else Move.CHANGED
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

    def _copy(self, file: ArrivalFile, part: Path, token: str) -> bool:
        """Copy what is held; say whether all of it was there."""
        size = 0
        try:
            with part.open("wb") as copy:
                for block in self.store.read(file.name, file.identity, token):
                    size += len(block)
                    copy.write(block)
                    self._go_on()
                copy.flush()
                os.utime(copy.fileno(), ns=(file.identity.mtime_ns, file.identity.mtime_ns))
                os.fsync(copy.fileno())
        except ChangedError:
            return False
        return size == file.identity.size

    def _leave(self, file: ArrivalFile, token: str, why: str) -> Move:
        """Let one bad file wait, so that it holds up no good one; somebody is told."""
        self.refused[file.name] = why
        self.store.release(file.name, file.identity, token)
        return Move.CHANGED

    def _go_on(self) -> None:
        self.beat()
        if self._stopping.is_set():
            raise StoreError(f"{self.inbox.where}: the sensor stops")
