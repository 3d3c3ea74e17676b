"""Staging: settled files become an arrival, each moved once to its permanent address.

The ledger records the intent, then each file is moved by one atomic rename, then the ledger records it done. A
crash in between is mended by doing it again: a file is in the arrival's folder or still where it was dropped.
"""

import errno
import logging
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sensors.clock import Clock
from sensors.identity import Identity, identity_at
from sensors.inbox import Inbox
from sensors.lease import read_lease
from sensors.ledger import Ledger, arrivals
from sensors.ledger import files as ledger_files
from sensors.ledger.arrivals import Arrival, ArrivalFile
from sensors.ledger.files import WaitingFile
from sensors.ledger.states import ArrivalState
from sensors.settle import Writer

logger = logging.getLogger(__name__)


class ChangedMeanwhileError(Exception):
    """A file changed while it was copied to another device."""


class Move(StrEnum):
    """What came of taking one file."""

    STAGED = "staged"
    CHANGED = "changed"  # somebody wrote to it, or put another in its place: it has to settle again
    GONE = "gone"  # its owner took it away


@dataclass(frozen=True)
class Stager:
    """Takes an inbox's settled files as arrivals."""

    ledger: Ledger
    arrivals_dir: Path
    clock: Clock

    def step(self, inbox: Inbox) -> bool:
        """Take what has settled as the next arrival, unless too many are unfinished; say whether it did.

        Raises OSError when the file system refuses; what was begun is finished by `recover`.
        """
        if arrivals.count_unfinished(self.ledger, inbox.name) >= inbox.max_in_flight:
            return False
        batch = next_batch(ledger_files.settled(self.ledger, inbox.name, inbox.max_files), inbox.max_bytes)
        if not batch:
            return False
        now = self.clock.utc()
        arrival = new_arrival(inbox.name, self.arrivals_dir, now)
        if arrivals.begin(self.ledger, arrival, batch, now):
            self._stage(arrival)
        return True

    def recover(self, inbox: Inbox) -> None:
        """Finish the staging that a crash or an error interrupted."""
        for arrival in arrivals.in_state(self.ledger, ArrivalState.STAGING):
            if arrival.inbox != inbox.name:
                continue
            logger.info("arrival %s: staging was interrupted, going on with it", arrival.id)
            self._stage(arrival)

    def _stage(self, arrival: Arrival) -> None:
        files = arrivals.files_to_stage(self.ledger, arrival.id)
        arrival.folder.mkdir(parents=True, exist_ok=True)
        moves: dict[Move, list[int]] = {move: [] for move in Move}
        for file in files:
            try:
                moves[take(file, arrival.folder)].append(file.id)
            except OSError as error:
                # One bad file must not hold up the good ones: it stays where it is and waits.
                logger.warning("arrival %s: %s cannot be taken: %s", arrival.id, file.name, error)
                moves[Move.CHANGED].append(file.id)
        for folder in {arrival.folder, arrival.folder.parent, *(file.path.parent for file in files)}:
            sync_folder(folder)
        arrivals.finish_staging(
            self.ledger,
            arrival.id,
            staged=moves[Move.STAGED],
            returned=moves[Move.CHANGED],
            gone=moves[Move.GONE],
            now=self.clock.utc(),
        )
        if not moves[Move.STAGED] and not any(arrival.folder.iterdir()):
            arrival.folder.rmdir()
        logger.info(
            "arrival %s: %d files staged, %d changed meanwhile, %d taken away",
            arrival.id,
            *(len(moves[move]) for move in (Move.STAGED, Move.CHANGED, Move.GONE)),
        )


def next_batch(settled: list[WaitingFile], max_bytes: int) -> list[WaitingFile]:
    """Return the first files that together have at most `max_bytes`; one that alone has more goes alone."""
    batch: list[WaitingFile] = []
    size = 0
    for file in settled:
        size += file.identity.size
        if batch and size > max_bytes:
            break
        batch.append(file)
    return batch


def new_arrival(inbox: str, arrivals_dir: Path, now: datetime) -> Arrival:
    """Return a new arrival with an id that sorts by time and reads well: `metrics-20261124-140509-3f9a1c`."""
    arrival_id = f"{inbox}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = arrivals_dir / f"{now:%Y-%m-%d}" / arrival_id
    return Arrival(arrival_id, inbox, folder, ArrivalState.STAGING, 0, None, None, None)


def take(file: ArrivalFile, folder: Path) -> Move:
    """Move one file into the arrival's folder, unless it is not the file any more that had settled.

    Safe to repeat: a file that is in the folder already is found there.
    """
    target = folder / file.name
    if target.exists():
        # Moved before a crash; across devices the crash may have come before the source was removed.
        if identity_at(file.path) == file.identity:
            file.path.unlink()
        return Move.STAGED
    try:
        # Whoever opens the file for writing waits until the lease is released, after the move.
        with read_lease(file.path) as writer:
            if writer is Writer.PRESENT or identity_at(file.path) != file.identity:
                return Move.CHANGED
            move(file.path, target, file.identity)
    except ChangedMeanwhileError:
        return Move.CHANGED
    except FileNotFoundError:
        return Move.GONE
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symlink lies there now
            return Move.CHANGED
        raise
    return Move.STAGED


def move(source: Path, target: Path, identity: Identity) -> None:
    """Move a file to where nothing is: by one rename, across devices by copy, fsync and rename.

    Raises ChangedMeanwhileError if it had to be copied and is not the same file afterwards.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as read, part.open("wb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
        shutil.copystat(source, part)
        if identity_at(source) != identity:
            raise ChangedMeanwhileError(source)  # noqa: TRY301 - mended like any other failure
        part.rename(target)
        sync_folder(target.parent)
        source.unlink()
    except BaseException:
        # The file is still where it was dropped, so it must be there only.
        if source.exists():
            part.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
