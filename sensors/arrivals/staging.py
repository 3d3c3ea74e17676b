"""Turn settled files into an arrival, each moved once to its permanent path.

The ledger records the intent, then the files are moved, then the ledger records the result. After a crash in between,
the same steps are repeated.
"""

import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from sensors.arrivals import manifest
from sensors.arrivals.blocked import REPORT_AFTER, notice_of
from sensors.arrivals.duplicates import duplicates_among, mark_duplicates, unmark_duplicates
from sensors.arrivals.move import LocalSource, Move, Source
from sensors.config.inboxes import Duplicates, Inbox
from sensors.files.beneath import Identity, OpenFolders
from sensors.files.durability import sync_folder
from sensors.files.permissions import share_with_group
from sensors.ledger import Ledger, arrivals
from sensors.ledger import files as ledger_files
from sensors.ledger.arrivals import Arrival, FileContent
from sensors.ledger.files import WaitingFile
from sensors.ledger.states import ArrivalState
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_arrival
from sensors.runtime.text import readable

logger = logging.getLogger(__name__)


@dataclass
class StagingResult:
    """The results for an inbox's settled files, by file name."""

    moved: list[str] = field(default_factory=list[str])
    """Files that no longer wait in the inbox: they were staged, or are gone."""
    returned: list[str] = field(default_factory=list[str])
    """Files that changed after they had settled, and have to settle again."""
    blocked: list[str] = field(default_factory=list[str])
    """Files that may not be moved, and stay in the inbox until the next attempt."""
    refused: list[tuple[str, Identity, str]] = field(default_factory=list[tuple[str, Identity, str]])
    """Files to reject in the inbox, each with its reason."""


@dataclass
class Stager:
    """Moves settled files into arrivals."""

    ledger: Ledger
    arrivals_dir: Path
    clock: Clock
    origin: Source = field(default_factory=LocalSource)
    readers: int | None = None
    """The id of a group that may read the arrivals."""
    _synced: set[Path] = field(default_factory=set[Path])
    _spare: dict[str, Arrival] = field(default_factory=dict[str, Arrival])
    """By inbox, an arrival that got no file; the next attempt to move blocked files reuses its id."""

    def step(self, inbox: Inbox) -> StagingResult | None:
        """Move the next settled files into an arrival; None if there are none, or too many arrivals are unfinished.

        Duplicates get an arrival of their own, or are rejected, as the inbox is configured. Raises OSError if a file
        operation fails; `recover` finishes an arrival that was begun.
        """
        if arrivals.count_unfinished(self.ledger, inbox.name) >= inbox.at_once:
            return None
        batch = next_batch(ledger_files.settled(self.ledger, inbox.name, inbox.max_files), inbox.max_bytes)
        if not batch:
            return None
        repeats = duplicates_among(self.ledger, inbox, batch, self.origin.digest)
        taken = StagingResult()
        self._take(inbox, [file for file in batch if file.id not in repeats], taken)
        repeated = [file for file in batch if file.id in repeats]
        if inbox.duplicates is Duplicates.REJECT:
            taken.refused += [(file.name, file.identity, repeats[file.id]) for file in repeated]
        else:
            self._take(inbox, repeated, taken, repeats)
        return taken

    def recover(self, inbox: Inbox) -> list[str]:
        """Finish arrivals that a crash or an error interrupted; return the files that remain in the inbox."""
        taken = StagingResult()
        for arrival in arrivals.in_state(self.ledger, ArrivalState.STAGING):
            if arrival.inbox == inbox.name:
                logger.info(
                    "arrival %s: staging was interrupted, going on with it", arrival.id, extra=about_arrival(arrival.id)
                )
                self._stage(inbox, arrival, taken)
        return [*taken.returned, *taken.blocked]

    def _take(
        self, inbox: Inbox, files: Sequence[WaitingFile], taken: StagingResult, repeats: Mapping[int, str] = {}
    ) -> None:
        """Move files into one arrival; with `repeats` it is an arrival of duplicates."""
        if not files:
            return
        now = self.clock.utc()
        arrival = self._arrival_for(inbox, files, now, is_duplicate=bool(repeats))
        if arrivals.begin(self.ledger, arrival, files, now, repeats):
            kill_point("begun")
            self._stage(inbox, arrival, taken, first=True)

    def _report_blocked(self, inbox: Inbox, files: Sequence[WaitingFile], arrival: Arrival) -> None:
        """Log each blocked file once, and write a notice about files that have been blocked for REPORT_AFTER."""
        for file in files:
            if file.blocked_as is None:
                logger.warning(
                    "inbox %s: %s cannot be taken, it waits: %s",
                    inbox.name,
                    readable(file.name),
                    self.origin.blocked.get(file.name),
                    extra=about_arrival(arrival.id),
                )
        if files:
            now = self.clock.utc()
            ledger_files.report(self.ledger, inbox.name, now - REPORT_AFTER, lambda found: notice_of(inbox, found), now)

    def _arrival_for(self, inbox: Inbox, files: Sequence[WaitingFile], now: datetime, *, is_duplicate: bool) -> Arrival:
        if all(file.is_blocked for file in files) and (spare := self._spare.pop(inbox.name, None)):
            return replace(spare, is_duplicate=is_duplicate, rules=inbox.load_rules)
        return new_arrival(inbox.name, self.arrivals_dir, now, is_duplicate=is_duplicate, rules=inbox.load_rules)

    def _stage(self, inbox: Inbox, arrival: Arrival, taken: StagingResult, *, first: bool = False) -> None:
        files = arrivals.files_to_stage(self.ledger, arrival.id)
        self._make_folders(arrival.folder, files)
        if arrival.is_duplicate:
            mark_duplicates(arrival.folder)
            sync_folder(arrival.folder)
        moves: dict[Move, list[WaitingFile]] = {move: [] for move in Move}
        for file, move in self.origin.take_all(files, arrival.folder, inbox.done_file, first=first):
            moves[move].append(file)
        digests = dict(_digests(arrival.folder, moves[Move.STAGED]))
        listed = _write_manifest(arrival, moves[Move.STAGED], digests)
        if self.readers is not None:
            share_with_group(arrival.folder, [manifest.NAME, *(file.name for file in files)], self.readers)
        # Sync the destination before the source: after a power cut a file may be in both, but never in neither.
        _sync(arrival.folder, files)
        self.origin.sync_sources(files)
        kill_point("all-taken")
        ids = {move: [file.id for file in moved] for move, moved in moves.items()}
        with self.ledger.transaction():
            if listed is not None:
                arrivals.record_manifest(self.ledger, arrival.id, listed, digests)
            arrivals.finish_staging(
                self.ledger,
                arrival.id,
                staged=ids[Move.STAGED],
                returned=ids[Move.CHANGED],
                gone=ids[Move.GONE],
                now=self.clock.utc(),
                blocked={file.id: self.origin.blocked.get(file.name, "") for file in moves[Move.BLOCKED]},
            )
        kill_point("staged")
        if not moves[Move.STAGED]:
            _remove_if_empty(arrival.folder)
            self._spare[inbox.name] = arrival
        self._report_blocked(inbox, moves[Move.BLOCKED], arrival)
        taken.blocked += [file.name for file in moves[Move.BLOCKED]]
        taken.moved += [file.name for move in (Move.STAGED, Move.GONE) for file in moves[move]]
        taken.returned += [file.name for file in moves[Move.CHANGED]]
        if len(moves[Move.BLOCKED]) == len(files):
            return
        logger.info(
            "arrival %s: %d files %s, %d changed meanwhile, %d taken away",
            arrival.id,
            len(ids[Move.STAGED]),
            "kept as duplicates" if arrival.is_duplicate else "staged",
            len(ids[Move.CHANGED]),
            len(ids[Move.GONE]),
            extra=about_arrival(arrival.id),
        )

    def _make_folders(self, folder: Path, files: Sequence[WaitingFile]) -> None:
        """Make and sync all folders that the files are moved into, before the first file is moved."""
        folder.mkdir(parents=True, exist_ok=True)
        above = {str(part) for file in files if "/" in file.name for part in Path(file.name).parents if part.name}
        for part in sorted(above):
            with suppress(FileExistsError, NotADirectoryError):  # an object store may have a file of that name
                (folder / part).mkdir(exist_ok=True)
        if above:
            _sync(folder, files)
        sync_folder(folder.parent)
        if folder.parent not in self._synced:  # the folders of the day and of all arrivals may be new
            sync_folder(self.arrivals_dir)
            sync_folder(self.arrivals_dir.parent)
            self._synced.add(folder.parent)


def _digests(folder: Path, staged: Sequence[WaitingFile]) -> Iterator[tuple[int, str | None]]:
    """Yield the id and SHA-256 of each staged file; a digest from the duplicate check is reused."""
    with OpenFolders() as folders:
        for file in staged:
            yield file.id, file.sha256 or manifest.content_digest(folders, folder, file.name)


def _write_manifest(arrival: Arrival, staged: Sequence[WaitingFile], digests: Mapping[int, str | None]) -> str | None:
    """Write the manifest of the staged files and return its digest; without files, remove it and return None."""
    if not staged:
        manifest.remove(arrival.folder)
        return None
    files = [FileContent(file.name, file.identity.size, digests[file.id], file.identity.mtime_ns) for file in staged]
    content = manifest.content_of(arrival.id, files)
    manifest.write(arrival.folder, content)
    return manifest.digest_of_content(content)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of an arrival without files."""
    for above, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # not empty
            if Path(above) != folder:
                os.rmdir(above)  # noqa: PTH106
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        return
    unmark_duplicates(folder)
    if not any(folder.iterdir()):
        folder.rmdir()


def _sync(folder: Path, files: Sequence[WaitingFile]) -> None:
    """Sync every folder that files were moved into, so that the moves survive a power cut."""
    parents = {str(folder / above) for file in files if "/" in file.name for above in Path(file.name).parents}
    for touched in {str(folder), *parents}:
        # The folder does not exist if none of its files was moved, or if an object store has a file of that name.
        with suppress(FileNotFoundError, NotADirectoryError):
            sync_folder(touched)


def next_batch(settled: list[WaitingFile], max_bytes: int) -> list[WaitingFile]:
    """Return the first files with at most `max_bytes` in total; a larger first file is returned alone."""
    batch: list[WaitingFile] = []
    size = 0
    for file in settled:
        size += file.identity.size
        if batch and size > max_bytes:
            break
        batch.append(file)
    return batch


def new_arrival(
    inbox: str, arrivals_dir: Path, now: datetime, *, is_duplicate: bool = False, rules: str | None = None
) -> Arrival:
    """Return a new arrival with a readable id that sorts by time within an inbox: `metrics-20261124-140509-3f9a1c`."""
    arrival_id = f"{inbox}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = arrivals_dir / f"{now:%Y-%m-%d}" / arrival_id
    return Arrival(arrival_id, inbox, folder, ArrivalState.STAGING, 0, None, None, None, is_duplicate, rules=rules)
