"""Names that other programs give to files which are no deliveries: unfinished ones, and litter.

A temporary name belongs to a file that its program renames or deletes when it is done with it; it is left alone, and
reported if it stays. Litter is what systems and editors leave behind; it is ignored. The source is beside each.
Names that begin with a dot are hidden and never taken; of these only the temporary ones are listed here.
"""

import re
from collections.abc import Callable
from datetime import date
from enum import StrEnum
from fnmatch import translate


class NameKind(StrEnum):
    """What a name says of a file that is no delivery."""

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
        "_temporary",  # Hadoop and Spark: what is not committed yet
    }
)

_SED = re.compile(r"sed[a-z0-9]{6}")  # GNU sed -i: sedXXXXXX
_MKTEMP = re.compile(r"tmp\.?[a-z0-9_]{8,10}")  # mktemp (tmp.XXXXXXXXXX), Python's tempfile (tmpXXXXXXXX)
_EXCEL = re.compile(r"[0-9a-f]{7,8}")  # Excel while it saves: eight hexadecimal digits and no suffix
_VIM = "4913"  # vim tries with it whether it may write to a folder; then 5036 and so on
_AWS = re.compile(r"(?P<name>.+)\.(?P<random>[0-9a-f]{8})")  # s3transfer (aws-cli, boto3): name.XXXXXXXX
_RSYNC = re.compile(r"\.(?P<name>.+)\.[a-z0-9]{6}")  # rsync: .name.XXXXXX


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


_IS_TEMPORARY, _IS_LITTER = _any_of(_TEMPORARY), _any_of(_LITTER)


def kind_of(name: str) -> NameKind | None:
    """Return what a name, or a pattern for names, says by itself.

    >>> kind_of("orders.csv.1f3a.partial"), kind_of("Thumbs.db"), kind_of("orders.csv"), kind_of("*.part")
    (<NameKind.TEMPORARY: 'temporary name'>, <NameKind.LITTER: 'litter'>, None, <NameKind.TEMPORARY: 'temporary name'>)
    """
    name = name.lower()
    if _IS_LITTER.match(name):
        return NameKind.LITTER
    return NameKind.TEMPORARY if _IS_TEMPORARY.match(name) else None


def may_be_temporary(name: str, is_wanted: Callable[[str], bool]) -> bool:
    """Tell whether a name that no pattern matches is likely to be temporary: it is partly random.

    `is_wanted` says whether the inbox takes a name. A date is not taken for random.

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
    """Tell whether a folder is hidden or litter, so that nothing in it is a delivery."""
    return (name.startswith(".") and name not in {".", ".."}) or name.lower() in _LITTER_FOLDERS


def _is_date(digits: str) -> bool:
    try:
        return 1970 <= date.fromisoformat(digits).year <= 2100
    except ValueError:
        return False
