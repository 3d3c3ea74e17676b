"""Admission: which directory entries are files for us, decided by name and kind alone."""

import stat
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from sensors.inbox import Inbox

TEMPORARY_SUFFIXES = (".part", ".tmp", ".crdownload", ".filepart", "~")
"""Names under which programs write what they will rename when it is whole."""

LONGEST_NAME = 200
"""Bytes; leaves room for what others hang on to a name, most file systems end at 255."""


class Admission(StrEnum):
    """What becomes of a directory entry."""

    ADMITTED = "admitted"
    LEFT_ALONE = "left alone"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Ruling:
    """What becomes of a directory entry, and why, in words for a person."""

    admission: Admission
    reason: str = ""


def admit(name: str, mode: int, inbox: Inbox) -> Ruling:
    """Decide by an entry's name and its `st_mode` (of the entry itself, a symlink not followed)."""
    if name.startswith(".") or name.lower().endswith(TEMPORARY_SUFFIXES):
        return Ruling(Admission.LEFT_ALONE, "hidden or temporary name")
    if not stat.S_ISREG(mode):
        return Ruling(Admission.LEFT_ALONE, "not a regular file")
    if reason := _bad_name(name):
        return Ruling(Admission.REJECTED, reason)
    if not any(fnmatchcase(name.lower(), pattern.lower()) for pattern in inbox.patterns):
        return Ruling(
            Admission.REJECTED,
            f"inbox {inbox.name!r} takes {' '.join(inbox.patterns)}, not this kind of file",
        )
    return Ruling(Admission.ADMITTED)


def _bad_name(name: str) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    if length > LONGEST_NAME:
        return f"the name has {length} bytes, at most {LONGEST_NAME} are taken; rename the file"
    if not name.isprintable():
        return "the name holds control characters; rename the file"
    return ""


def readable(name: str) -> str:
    """Return a file's name as it may be written down and shown: whatever is not plain text is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode("ascii")
        for letter in name.encode("utf-8", "backslashreplace").decode("utf-8")
    )
