"""The steps that a file and an arrival can have reached; the newest `schema/N.sql` mirrors them in its CHECKs."""

from enum import StrEnum


class FileState(StrEnum):
    """The step that one dropped file has reached."""

    SEEN = "seen"
    SETTLED = "settled"
    STAGING = "staging"
    STAGED = "staged"
    LOADED = "loaded"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"  # its content had come before, and the inbox skips duplicates
    WITHDRAWN = "withdrawn"  # taken away by its owner before we took it


class ArrivalState(StrEnum):
    """The step that one arrival has reached."""

    STAGING = "staging"
    STAGED = "staged"
    ANNOUNCED = "announced"
    RUNNING = "running"
    LOADED = "loaded"
    FAILED = "failed"
    SKIPPED = "skipped"  # of duplicates, so that it is never announced


ENDED = (ArrivalState.LOADED, ArrivalState.FAILED, ArrivalState.SKIPPED)
