"""Settling: when is a file complete? Decided from sightings, the kernel's word on writers, and a clock.

1. A file that changed is not complete; only what stays as it is can be.
2. A writer that has it open means it is not complete, however long it is quiet.
3. Renamed in: complete at once, who renames a file has written it elsewhere. Closed after writing and unchanged for
   the grace period: complete. The grace is for writers that open, append and close again and again.
4. Neither was noticed (the sensor was not running, the hint was lost): the quiet period decides.
5. Where the kernel cannot tell who writes (a network mount, another owner's file), hints prove nothing, and a
   longer quiet period decides alone.
6. Where the inbox asks for done-files, nothing is complete without its own, which must not be older than the file:
   an old one may have been left by another file of that name. It counts like closing the file.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from sensors.files.identity import Identity


class Writer(StrEnum):
    """Whether the kernel knows of somebody who has the file open for writing."""

    NONE = "none"
    PRESENT = "present"
    UNKNOWN = "unknown"


class SettlingRules(Protocol):
    """The rules that an inbox gives, in seconds."""

    @property
    def grace_seconds(self) -> float: ...
    @property
    def quiet_seconds(self) -> float: ...
    @property
    def unproven_quiet_seconds(self) -> float: ...
    @property
    def done_file(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of one file so far; times are monotonic seconds."""

    identity: Identity
    unchanged_since: float
    completed_at: float | None = None
    """When it was last closed after writing, or renamed to its name."""
    done_at: float | None = None
    """Since when it has a done-file."""
    is_renamed: bool = False
    """Whether being renamed is the last that happened to it."""


def sight(
    before: Sighting | None, identity: Identity, now: float, *, completed: bool, renamed: bool = False
) -> Sighting:
    """Return the sighting that follows `before` when the file is now seen with `identity`.

    `completed` says that since then it was closed after writing, or renamed in; `renamed` that it was nothing else.
    """
    if before is None or before.identity != identity:
        # Without a hint of its own the change came after the last close: somebody is at it again.
        return Sighting(identity, now, now if completed else None, is_renamed=completed and renamed)
    return replace(before, completed_at=now, is_renamed=renamed) if completed else before


def mark_done(sighting: Sighting, now: float, *, done: bool) -> Sighting:
    """Return the sighting of a file that has a done-file now, or has none."""
    if done == (sighting.done_at is not None):
        return sighting
    return replace(sighting, done_at=now if done else None)


def rejectable_at(sighting: Sighting, rules: SettlingRules, writer: Writer) -> float | None:
    """Return the time from which a file that the inbox does not take counts as dropped to stay, or None: as above.

    How it came proves nothing here, since a program may rename it once more; so the longer quiet period decides.
    """
    return None if writer is Writer.PRESENT else sighting.unchanged_since + rules.unproven_quiet_seconds


def complete_at(sighting: Sighting, rules: SettlingRules, writer: Writer) -> float | None:
    """Return the time from which the file counts as complete if nothing changes, or None: not while written."""
    if writer is Writer.PRESENT or (rules.done_file and sighting.done_at is None):
        return None
    if sighting.done_at is not None:
        return max(sighting.done_at, sighting.unchanged_since) + rules.grace_seconds
    if writer is Writer.UNKNOWN:
        return sighting.unchanged_since + rules.unproven_quiet_seconds
    if sighting.completed_at is None:
        return sighting.unchanged_since + rules.quiet_seconds
    grace = 0.0 if sighting.is_renamed else rules.grace_seconds
    return max(sighting.completed_at, sighting.unchanged_since) + grace
