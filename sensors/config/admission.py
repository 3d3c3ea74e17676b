"""Decide by name, type and size alone which directory entries of an inbox are taken, left alone or rejected.

A program renames or deletes a file with a temporary name when it has finished it; such a file is left alone, and
reported if it stays. Litter, files that operating systems and editors leave behind, is ignored. The comment beside each
pattern names the programs that use it. Names that begin with a dot are hidden and never taken; only the temporary ones
of them are listed here.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fnmatch import translate
from functools import cache

from sensors.config.inboxes import Inbox


class NameKind(StrEnum):
    """The kinds of names that belong to no delivery."""

    TEMPORARY = "temporary name"
    LITTER = "litter"


_TEMPORARY = (
    "*.part",  # Firefox, KDE, many clients of FTP; Nextcloud and ownCloud servers (name.ocTransferId1.part)
    "*.part.minio",  # MinIO's SDKs and mc: name.ETAG.part.minio
    "*.partial",  # rclone, --partial-suffix: name.HASH.partial; Internet Explorer
    ".rclone-*",  # rclone
    "*.aria2",  # aria2, its control file beside an unfinished one
    "*.crdownload",  # Chromium, Chrome, Edge
    "*.download",  # Safari
    "*.opdownload",  # Opera
    "*.filepart",  # WinSCP
    "*.lftp-pget-status",  # lftp
    "*_.gstmp",  # gsutil and gcloud storage
    "*._copying_",  # hdfs dfs -put
    "*.incomplete",  # Hugging Face Hub, Transmission, ExpanDrive
    "*.!ut",
    "*.!qb",  # uTorrent, qBittorrent
    "*.tmp",  # everywhere; Office (~WRD0001.tmp), OneDrive, Dropbox
    "*.temp",
    "*.swp",
    "*.swo",
    "*.swx",
    "*.kate-swp",  # vim and Kate, where they are not hidden
    "*~",  # Emacs, vim, gedit, sed -i~: backups
    "#*#",  # Emacs, auto-save
    "~$*",  # Word, Excel, PowerPoint: owner files
    "~syncthing~*",  # Syncthing on Windows
    ".syncthing.*",  # Syncthing elsewhere
    ".~lock.*#",  # LibreOffice
    ".azdownload-*",  # AzCopy
    ".goutputstream-*",  # GLib, and with it GNOME's programs
    ".~*",  # OneDrive on macOS
    ".*.~*",  # Nextcloud and ownCloud clients: .name.~3f9a
    ".in.*",  # lftp, xfer:use-temp-file
)
_LITTER = (
    "thumbs.db",
    "thumbs.db:*",
    "*:zone.identifier",  # Windows's streams, as Samba and WSL write them
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",  # Windows Explorer
    "icon\r",  # macOS Finder
    "_success",
    "_committed_*",
    "_started_*",  # Spark, Hadoop and Databricks: markers beside the data
)
_LITTER_FOLDERS = frozenset(
    {
        "$recycle.bin",
        "recycler",
        "system volume information",  # Windows
        "lost+found",  # ext4
        "@eadir",
        "#recycle",
        "#snapshot",  # Synology
        "@recycle",
        "@recently-snapshot",  # QNAP
        "_temporary",  # Hadoop and Spark: files that are not committed yet
    }
)

_SED = re.compile(r"sed[a-z0-9]{6}")  # GNU sed -i: sedXXXXXX
_MKTEMP = re.compile(r"tmp\.?[a-z0-9_]{8,10}")  # mktemp (tmp.XXXXXXXXXX), Python's tempfile (tmpXXXXXXXX)
_EXCEL = re.compile(r"[0-9a-f]{7,8}")  # Excel while it saves: eight hexadecimal digits and no suffix
_VIM = "4913"  # vim checks with it whether it may write to a folder; then 5036 and so on
_AWS = re.compile(r"(?P<name>.+)\.(?P<random>[0-9a-f]{8})")  # s3transfer (aws-cli, boto3): name.XXXXXXXX
_RSYNC = re.compile(r"\.(?P<name>.+)\.[a-z0-9]{6}")  # rsync: .name.XXXXXX


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


_IS_TEMPORARY, _IS_LITTER = _any_of(_TEMPORARY), _any_of(_LITTER)


def kind_of(name: str) -> NameKind | None:
    """Return the kind of a name, or of a pattern for names, if it is a known temporary name or litter.

    >>> kind_of("orders.csv.1f3a.partial"), kind_of("Thumbs.db"), kind_of("orders.csv"), kind_of("*.part")
    (<NameKind.TEMPORARY: 'temporary name'>, <NameKind.LITTER: 'litter'>, None, <NameKind.TEMPORARY: 'temporary name'>)
    """
    name = name.lower()
    if _IS_LITTER.match(name):
        return NameKind.LITTER
    return NameKind.TEMPORARY if _IS_TEMPORARY.match(name) else None


def may_be_temporary(name: str, is_wanted: Callable[[str], bool]) -> bool:
    """Return whether a name that no pattern matches is probably temporary because a part of it is random.

    `is_wanted` returns whether the inbox takes a name. A date does not count as random.

    >>> [may_be_temporary(name, lambda name: name.endswith(".csv")) for name in ("a.csv.3fA91b0C", "a.csv.20261130")]
    [True, False]
    """
    name = name.lower()
    if name == _VIM or _SED.fullmatch(name) or _MKTEMP.fullmatch(name):
        return True
    if _EXCEL.fullmatch(name):
        return not _is_date(name)
    if aws := _AWS.fullmatch(name):
        return is_wanted(aws["name"]) and not _is_date(aws["random"])
    rsync = _RSYNC.fullmatch(name)
    return rsync is not None and is_wanted(rsync["name"])


def is_ignored_folder(name: str) -> bool:
    """Return whether a folder is hidden or litter, so that nothing in it is a delivery."""
    return (name.startswith(".") and name not in {".", ".."}) or name.lower() in _LITTER_FOLDERS


def _is_date(digits: str) -> bool:
    try:
        return 1970 <= date.fromisoformat(digits).year <= 2100
    except ValueError:
        return False


LONGEST_NAME = 200
"""Bytes; leaves room for suffixes that other programs add, as most file systems allow 255."""
LONGEST_PATH = 1000
"""Bytes of the path below the inbox; Linux allows 4096 for the whole path."""


class Admission(StrEnum):
    """How a directory entry of an inbox is treated."""

    ADMITTED = "admitted"
    LEFT_ALONE = "left alone"
    REJECTED = "rejected"


@dataclass(frozen=True)
class AdmissionResult:
    """How a directory entry is treated, and why."""

    admission: Admission
    reason: str = ""
    is_temporary: bool = False
    """Whether it is left alone because a program has not finished it."""


_ADMITTED = AdmissionResult(Admission.ADMITTED)


def admit(name: str, status: os.stat_result, inbox: Inbox) -> AdmissionResult:
    """Return the ruling on an entry, by its path below the inbox and its stat (a symlink is not followed)."""
    plain = name.rpartition("/")[2]
    if is_temporary(plain, inbox):
        return AdmissionResult(Admission.LEFT_ALONE, "temporary name", is_temporary=stat.S_ISREG(status.st_mode))
    if reason := _not_ours(name, plain, status.st_mode, inbox):
        return AdmissionResult(Admission.LEFT_ALONE, reason)
    if reason := _bad_name(name, plain) or _not_wanted(plain, status.st_size, inbox):
        return AdmissionResult(Admission.REJECTED, reason)
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
    """Return whether this name belongs to a file that its program has not finished.

    An inbox pattern that names temporary files itself, such as `*.part`, takes precedence, except for hidden names.
    """
    if _matches(plain, inbox.temporary):
        return True
    if kind_of(plain) is NameKind.TEMPORARY:
        return plain.startswith(".") or not _is_explicit(plain, inbox.patterns)
    wanted = inbox.patterns
    return not _matches(plain, wanted) and may_be_temporary(plain, lambda name: _matches(name, wanted))


def _is_explicit(plain: str, patterns: tuple[str, ...]) -> bool:
    """Return whether the name matches an inbox pattern that explicitly names temporary files or litter."""
    return _matches(plain, _explicit(patterns))


@cache
def _explicit(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(pattern for pattern in patterns if kind_of(pattern) is not None)


def _matches(plain: str, patterns: tuple[str, ...]) -> bool:
    return bool(patterns) and _expression(patterns).match(plain.lower()) is not None


@cache
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return one regular expression for all patterns, so that a name is matched once and not once for each."""
    return re.compile("|".join(translate(pattern.lower()) for pattern in patterns))


def _bad_name(name: str, plain: str) -> str:
    if name.isascii() and name.isprintable() and len(plain) <= LONGEST_NAME and len(name) <= LONGEST_PATH:
        return ""  # nearly all names
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
