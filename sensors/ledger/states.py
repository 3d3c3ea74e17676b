"""States of files and arrivals; the CHECK constraints of the newest `schema/N.sql` repeat them."""

from enum import StrEnum


class FileState(StrEnum):
    """The step that a dropped file has reached."""

    SEEN = "seen"
    SETTLED = "settled"
    STAGING = "staging"
    STAGED = "staged"
    LOADED = "loaded"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"  # its content came before, and the inbox skips duplicates
    WITHDRAWN = "withdrawn"  # removed from the inbox before the sensor moved it


class ArrivalState(StrEnum):
    """The step that an arrival has reached."""

    STAGING = "staging"
    STAGED = "staged"
    ANNOUNCED = "announced"
    RUNNING = "running"
    LOADED = "loaded"
    FAILED = "failed"
    SKIPPED = "skipped"  # contains duplicates, so it is not announced


ENDED = (ArrivalState.LOADED, ArrivalState.FAILED, ArrivalState.SKIPPED)
