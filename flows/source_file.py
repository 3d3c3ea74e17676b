"""Files to be loaded, their formats, and detection of changes while they are loaded."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path


class FileFormat(StrEnum):
    """The format of a file; the value is the file's suffix."""

    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    FIXED_WIDTH = "fixed_width"
    EXCEL = "excel"
    XML = "xml"


SUFFIXES = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".json": FileFormat.JSON,
    ".ndjson": FileFormat.NDJSON,
    ".jsonl": FileFormat.NDJSON,
    ".parquet": FileFormat.PARQUET,
    ".xlsx": FileFormat.EXCEL,
    ".xlsb": FileFormat.EXCEL,
    ".ods": FileFormat.EXCEL,
    ".xml": FileFormat.XML,
}
_PACKED_INSIDE = frozenset({FileFormat.PARQUET, FileFormat.EXCEL})
"""Formats that are not compressed as a whole."""


class Compression(StrEnum):
    """The compression of a whole file; the value is its suffix."""

    GZIP = "gz"
    ZSTD = "zst"
    BZIP2 = "bz2"
    XZ = "xz"

    @property
    def word(self) -> str:
        """Its name."""
        return self.name.lower()

    @property
    def described(self) -> str:
        """What a file of it is called."""
        return f"an {self.word} file" if self is Compression.XZ else f"a {self.word} file"


@dataclass(frozen=True)
class FileVersion:
    """The kernel's metadata of a file, which differs after every change of the file."""

    size: int
    """In bytes."""
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileVersion:
        """Return the version of a file with this stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)

    def is_another(self, other: FileVersion) -> bool:
        """Return whether the content has surely changed; the inode may change at any time on some network mounts."""
        return (self.size, self.mtime_ns) != (other.size, other.mtime_ns)


_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ_BYTES = 1 << 20


def version_and_digest(path: Path, size: int | None = None) -> tuple[FileVersion, str | None]:
    """Return a file's current version and SHA-256; no digest if it is not `size` bytes long. Raises OSError.

    The file is opened first: a network mount then asks its server instead of using cached metadata.
    """
    descriptor = os.open(path, _READ)
    try:
        version = FileVersion.of(os.fstat(descriptor))
        if size not in {None, version.size}:
            return version, None
        digest = hashlib.sha256()
        while block := os.read(descriptor, _READ_BYTES):
            digest.update(block)
        return version, digest.hexdigest()
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class SourceFile:
    """A file that can be opened and whose format is known."""

    path: Path
    name: str
    """The file's name in the load key and in reports: its path relative to the source's folder, such as `orders.csv` or
    `north/orders.csv`, or an http source's host and path."""
    size: int
    """In bytes."""
    format: FileFormat
    compression: Compression | None = None
    version: FileVersion | None = field(default=None, compare=False)
    """The version that is loaded; None for a file that the run itself has written."""
    sha256: str | None = field(default=None, compare=False)
    """Of the content, where it is known."""
    remark: str | None = field(default=None, compare=False)
    """A note for the user, although the file is loaded."""

    def seen_as(self, version: FileVersion, sha256: str | None, remark: str | None = None) -> SourceFile:
        """Return the file with the size, version and digest that were checked; it must not change after that."""
        return replace(self, size=version.size, version=version, sha256=sha256, remark=remark)

    def change(self) -> str | None:
        """Return how the file has changed since its version was recorded, as a reason; None if it is unchanged."""
        if self.version is None:
            return None
        expected = f"it changed while it was being loaded: expected {self.version.size:,} bytes"
        try:
            found = FileVersion.of(os.stat(self.path))  # noqa: PTH116 - of thousands of files
            is_same = found == self.version or (not found.is_another(self.version) and self._has_its_digest())
        except OSError as error:
            return f"{expected}, got none: {error.strerror}"
        if is_same:
            return None
        got = f"{found.size:,} bytes" if found.size != self.version.size else "as many, written since"
        return f"{expected}, got {got}; load it again when no program writes it any more"

    def _has_its_digest(self) -> bool:
        return self.sha256 is None or version_and_digest(self.path)[1] == self.sha256


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be loaded, and the reason in one line."""

    name: str
    size: int
    reason: str
    original: str | None = None
    """The error's own message, if the reason is less specific: for the log."""


def format_of(name: str) -> tuple[FileFormat, Compression | None] | None:
    """Return the format of a name's suffix and its compression; None for an unknown suffix.

    >>> format_of("Orders.CSV.gz")
    (<FileFormat.CSV: 'csv'>, <Compression.GZIP: 'gz'>)
    """
    compression = compression_of(name)
    stem = name.lower().removesuffix(f".{compression}")
    found = SUFFIXES.get(Path(stem).suffix)
    return None if found is None or (compression and found in _PACKED_INSIDE) else (found, compression)


def compression_of(name: str) -> Compression | None:
    """Return the compression of a name's suffix."""
    return next((one for one in Compression if name.lower().endswith(f".{one}")), None)
