"""Show which arrivals the files in the inboxes would become now, without changing anything."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.arrivals.staging import next_batch
from sensors.config.admission import Admission, AdmissionResult, admit
from sensors.config.inboxes import Duplicates, EmptyFiles, Inbox, read_inboxes
from sensors.config.settings import Settings
from sensors.files import stability
from sensors.files.beneath import Identity, place_of
from sensors.files.stability import Observation, Writer, writer_of
from sensors.inbox.intake import EMPTY
from sensors.inbox.pending_files import Entry, scan
from sensors.ledger import Ledger, arrivals
from sensors.ledger import files as ledger_files
from sensors.ledger.files import WaitingFile
from sensors.runtime.text import counted, readable


@dataclass(frozen=True)
class Known:
    """The ledger's state of an inbox."""

    unfinished: int = 0
    """How many arrivals have no outcome yet."""
    refused: dict[str, Identity] = field(default_factory=dict[str, Identity])
    """The files that were rejected and are still in the inbox, by their paths."""


@dataclass(frozen=True)
class ComingArrival:
    """A future arrival: its files in their order, and the parameters of its run."""

    files: tuple[WaitingFile, ...]
    parameters: dict[str, Any]
    waits: bool
    """Whether other arrivals have to end before this one is created; more files may join it until then."""


@dataclass
class InboxPreview:
    """The files of one inbox by their treatment, and the arrivals that they would become."""

    inbox: Inbox
    ready: list[WaitingFile] = field(default_factory=list[WaitingFile])
    waiting: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Files that are not complete, and what they wait for."""
    refused: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    left_alone: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    arrivals: list[ComingArrival] = field(default_factory=list[ComingArrival])
    trouble: str = ""
    """Why the folder, or a part of it, cannot be read."""


def preview(settings: Settings) -> list[InboxPreview]:
    """Return the preview of every inbox, whether the sensor runs or not. Raises InboxesError, LedgerError."""
    return [
        look(inbox, _known(settings, inbox), settings.arrivals_dir)
        for inbox in read_inboxes(settings.inboxes_file, settings.inbox_dir)
    ]


def _known(settings: Settings, inbox: Inbox) -> Known:
    if not settings.ledger_path.exists():
        return Known()
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        unfinished = arrivals.count_unfinished(ledger, inbox.name)
        return Known(unfinished, dict(ledger_files.rejected_in_place(ledger, inbox.name)))


def look(inbox: Inbox, known: Known, arrivals_dir: Path) -> InboxPreview:
    """Return the preview of one inbox."""
    found = InboxPreview(inbox)
    done: dict[str, int] = {}
    admitted: dict[str, Identity] = {}
    try:
        for entry, identity, ruling in _entries(inbox):
            if ruling.admission is Admission.REJECTED:
                found.refused.append((entry.name, ruling.reason))
            elif ruling.admission is Admission.ADMITTED:
                admitted[entry.name] = identity
            elif inbox.done_file and entry.name.endswith(inbox.done_file):
                done[entry.name.removesuffix(inbox.done_file)] = identity.mtime_ns
            else:
                found.left_alone.append((entry.name, ruling.reason))
    except OSError as error:
        found.trouble = f"{error.filename or inbox.where}: {error.strerror or error}" if error.errno else str(error)
    for name, identity in admitted.items():
        _judge(found, name, identity, known, done.get(name))
    found.ready.sort(key=lambda file: (file.identity.mtime_ns, file.name))
    found.arrivals = list(_arrivals(inbox, found.ready, known.unfinished, arrivals_dir))
    return found


def _entries(inbox: Inbox) -> Iterator[tuple[Entry, Identity, AdmissionResult]]:
    """Yield the entries of an inbox. Raises OSError."""
    if inbox.url:
        yield from _remote_entries(inbox)
        return
    for entry in scan(inbox.path, _pass_by, subfolders=inbox.subfolders):
        yield entry, Identity.of(entry.status), admit(entry.name, entry.status, inbox)


def _remote_entries(inbox: Inbox) -> Iterator[tuple[Entry, Identity, AdmissionResult]]:
    from sensors.remote.open import open_store
    from sensors.remote.scanner import rule

    store = open_store(inbox)
    try:
        for file in store.listing(subfolders=inbox.subfolders):
            yield Entry(file.name, file.status), file.identity, rule(file, inbox)
    finally:
        store.close()


def _pass_by(folder: str, status: os.stat_result) -> None:
    """Watch no folder: the preview scans once."""


def _judge(found: InboxPreview, name: str, identity: Identity, known: Known, done: int | None) -> None:
    """Sort an admitted file into ready, waiting or rejected."""
    inbox, path = found.inbox, Path(found.inbox.at(name))
    if known.refused.get(readable(inbox.at(name))) == identity:
        found.refused.append((name, "it was refused as it is, and has not changed since"))
    elif identity.size == 0 and inbox.empty is EmptyFiles.REJECT:
        found.refused.append((name, EMPTY))
    elif reason := _why_it_waits(inbox, name, identity, done):
        found.waiting.append((name, reason))
    else:
        found.ready.append(WaitingFile(0, path, name, identity))


def _why_it_waits(inbox: Inbox, name: str, identity: Identity, done: int | None) -> str:
    """Return what a file waits for, in words; empty if only for the quiet period."""
    if identity.size == 0 and inbox.empty is EmptyFiles.WAIT:
        return "it is empty, and its content is waited for"
    is_done = done is not None and done >= identity.mtime_ns
    try:
        # For a remote file only the quiet period decides.
        writer = Writer.UNKNOWN if inbox.url else _writer_of(inbox, name)
    except OSError as error:
        return f"it cannot be opened: {error.strerror or error}"
    sighting = Observation(identity, unchanged_since=0.0, done_at=0.0 if is_done else None)
    if stability.complete_at(sighting, inbox, writer) is not None:
        return ""
    if writer is Writer.PRESENT:
        return "a process has it open for writing"
    return f"{name.rpartition('/')[2]}{inbox.done_file} is {'not there' if done is None else 'older than the file'}"


def _writer_of(inbox: Inbox, name: str) -> Writer:
    with place_of(inbox.path, name) as place:
        return writer_of(place.name, dir_fd=place.folder)


def _arrivals(
    inbox: Inbox, ready: Sequence[WaitingFile], unfinished: int, arrivals_dir: Path
) -> Iterator[ComingArrival]:
    """Yield the arrivals that `Stager` would make of the files."""
    rest = list(ready)
    while rest:
        batch = next_batch(rest[: inbox.max_files], inbox.max_bytes)
        arrival_id = f"{inbox.name}-<time>-<digits>"
        parameters = {
            "source_url": f"{arrivals_dir.as_uri()}/<date>/{arrival_id}",
            "arrival_id": arrival_id,
            "reload": None,
            "manifest": "<SHA-256>",
            "rules": json.loads(inbox.load_rules) if inbox.load_rules else None,
        }
        yield ComingArrival(tuple(batch), parameters, waits=unfinished >= inbox.at_once)
        unfinished += 1
        rest = rest[len(batch) :]


def lines(previews: Sequence[InboxPreview]) -> Iterator[str]:
    """Yield the previews as lines of text."""
    for one in previews:
        inbox = one.inbox
        yield f"inbox {inbox.name} ({inbox.where}): {_counted(one)}"
        if one.trouble:
            yield f"  ! {one.trouble}"
        for number, arrival in enumerate(one.arrivals, start=1):
            size = sum(file.identity.size for file in arrival.files)
            waits = f", when fewer than {inbox.at_once} are unfinished" if arrival.waits else ""
            yield f"  + arrival {number}: {counted(len(arrival.files), 'file')}, {size:,} bytes{waits}"
            yield from (f"      {readable(file.name)}  {file.identity.size:,} bytes" for file in arrival.files)
            yield from (f"      {name} = {json.dumps(value)}" for name, value in arrival.parameters.items())
        yield from (f"  . {readable(name)} waits: {reason}" for name, reason in one.waiting)
        yield from (f"  - {readable(name)} is refused: {reason}" for name, reason in one.refused)
        yield from (f"    {readable(name)} is left alone: {reason}" for name, reason in one.left_alone)
        if one.ready and inbox.duplicates is not Duplicates.LOAD:
            yield f"    whether one of them has come before is looked at when they are taken: {inbox.duplicates} it"


def _counted(one: InboxPreview) -> str:
    if not one.ready:
        return "nothing would fire"
    return f"{counted(len(one.ready), 'file')} would fire as {counted(len(one.arrivals), 'arrival')}"
