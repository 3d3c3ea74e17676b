"""Admission: which directory entries are files for us, decided by name and kind alone."""

import os
import re
import stat
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from functools import cache

from sensors.config.admission import NameKind, is_ignored_folder, kind_of, may_be_temporary
from sensors.config.inboxes import Inbox

LONGEST_NAME = 200
"""Bytes; leaves room for what others hang on to a name, most file systems end at 255."""
LONGEST_PATH = 1000
"""Bytes of the path below the inbox; Linux takes 4096 in all."""


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
    is_temporary: bool = False
    """Whether it is left alone as a file that some program has not finished."""


_ADMITTED = Ruling(Admission.ADMITTED)


def admit(name: str, status: os.stat_result, inbox: Inbox) -> Ruling:
    """Decide by an entry's path below the inbox and its stat (of the entry itself, a symlink not followed)."""
    plain = name.rpartition("/")[2]
    if is_temporary(plain, inbox):
        return Ruling(Admission.LEFT_ALONE, "temporary name", is_temporary=stat.S_ISREG(status.st_mode))
    if reason := _not_ours(name, plain, status.st_mode, inbox):
        return Ruling(Admission.LEFT_ALONE, reason)
    if reason := _bad_name(name, plain) or _not_wanted(plain, status.st_size, inbox):
        return Ruling(Admission.REJECTED, reason)
    return _ADMITTED


def _not_ours(name: str, plain: str, mode: int, inbox: Inbox) -> str:
    if plain.startswith("."):
        return "hidden name"
    if kind_of(plain) is NameKind.LITTER and not _is_explicit(plain, inbox.patterns):
        return "litter of the system or of an editor"
    if "/" in name and any(map(is_ignored_folder, name.split("/")[:-1])):
        return "in a hidden folder or in litter"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if inbox.done_file and plain.endswith(inbox.done_file):
        return "says that a file is done"
    return ""


def _not_wanted(plain: str, size: int, inbox: Inbox) -> str:
    if not _matches(plain, inbox.patterns):
        return _wrong_kind(inbox.name, inbox.patterns)
    if size > inbox.max_file_bytes:
        return f"the file has {size:,} bytes, inbox {inbox.name!r} takes at most {inbox.max_file_bytes:,}"
    return ""


@cache
def _wrong_kind(inbox: str, patterns: tuple[str, ...]) -> str:
    return f"inbox {inbox!r} takes {' '.join(patterns)}, not this kind of file"


def is_temporary(plain: str, inbox: Inbox) -> bool:
    """Tell whether some program has given this name to a file that it has not finished.

    A pattern of the inbox that is such a name itself, as `*.part` is, wins; a hidden name is never taken.
    """
    if _matches(plain, inbox.temporary):
        return True
    if kind_of(plain) is NameKind.TEMPORARY:
        return plain.startswith(".") or not _is_explicit(plain, inbox.patterns)
    wanted = inbox.patterns
    return not _matches(plain, wanted) and may_be_temporary(plain, lambda name: _matches(name, wanted))


def _is_explicit(plain: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a pattern matches that names temporary files or litter by itself."""
    return _matches(plain, _explicit(patterns))


@cache
def _explicit(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(pattern for pattern in patterns if kind_of(pattern) is not None)


def _matches(plain: str, patterns: tuple[str, ...]) -> bool:
    return bool(patterns) and _expression(patterns).match(plain.lower()) is not None


@cache
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return one expression for all patterns: a name is looked up once and not once for each."""
    return re.compile("|".join(translate(pattern.lower()) for pattern in patterns))


def _bad_name(name: str, plain: str) -> str:
    if name.isascii() and name.isprintable() and len(plain) <= LONGEST_NAME and len(name) <= LONGEST_PATH:
        return ""  # nearly all
    try:
        length, whole = len(plain.encode()), len(name.encode())
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    if length > LONGEST_NAME:
        return f"the name has {length} bytes, at most {LONGEST_NAME} are taken; rename the file"
    if whole > LONGEST_PATH:
        return f"the path below the inbox has {whole} bytes, at most {LONGEST_PATH} are taken; move the file up"
    if not name.isprintable():
        return "the name holds control characters; rename the file"
    return ""


def readable(name: str) -> str:
    """Return a file's name as it may be written down and shown: whatever is not plain text is escaped."""
    if name.isprintable():
        return name
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode("ascii")
        for letter in name.encode("utf-8", "backslashreplace").decode("utf-8")
    )
