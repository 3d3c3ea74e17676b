"""Read untrusted files within a time limit and a memory limit.

A thread watches the time and the memory of the process, and interrupts a query that exceeds a limit. DuckDB's own
memory_limit covers only its buffers: a file of 20,000 JSON keys once took 19.7 GB with a limit of 1 GB (measured).
"""

from __future__ import annotations

import codecs
import ctypes
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Self

import duckdb

from flows.errors import PipelineError, RejectionError
from flows.source_file import FileFormat

# Limits on one file, whose violation rejects only that file of its arrival, and on an http source.

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class FileLimits:
    """Limits on one file. Each `max_` field is also a setting, named in capitals."""

    max_columns: int = 4096
    """Maximum columns of a file, and of the table that it is loaded into."""
    max_rows: int = 100_000_000
    max_unpacked_bytes: int = 4 * 2**30
    """Maximum size after decompression: of a gzipped file, or of the values in a Parquet file."""
    max_file_seconds: float = 3600.0
    run_memory_bytes: int = 1_200 * MEGABYTE
    """Maximum memory of the run's process, as the kernel counts it."""
    run_memory_source: str = "RUN_MEMORY_LIMIT"
    """Where `run_memory_bytes` comes from, a setting or the cgroup; for messages."""

    def check_columns(self, count: int) -> None:
        """Raise LimitError if a file has too many columns."""
        if count > self.max_columns:
            raise LimitError(f"{count:,} columns", f"{self.max_columns:,}", "MAX_COLUMNS")

    def check_table_columns(self, there: int, added: int) -> None:
        """Raise LimitError if a file adds too many columns to a table that has `there` columns."""
        if added and there + added > self.max_columns:
            got = f"it adds {added:,} columns to a table of {there:,}" if there else f"{added:,} columns"
            raise LimitError(got, f"{self.max_columns:,}", "MAX_COLUMNS")

    def check_rows(self, count: int) -> None:
        """Raise LimitError if a file has too many rows."""
        if count > self.max_rows:
            raise LimitError(f"{count:,} rows", f"{self.max_rows:,}", "MAX_ROWS")

    def check_unpacked(self, size: int, *, at_least: bool = False) -> None:
        """Raise LimitError if a file unpacks to too many bytes; with `at_least`, `size` is a lower bound."""
        if size > self.max_unpacked_bytes:
            got = "it unpacks to " + (f"more than {self.max_unpacked_bytes:,}" if at_least else f"{size:,}") + " bytes"
            raise LimitError(got, f"{self.max_unpacked_bytes:,}", "MAX_UNPACKED_BYTES")


@dataclass(frozen=True)
class HttpLimits:
    """Limits on an http source; each field is also a setting, named in capitals and prefixed with HTTP_."""

    allowed_hosts: frozenset[str] = frozenset()
    """Hosts besides the source's own that redirects and next pages may lead to: `host`, or `host:port`."""
    max_pages: int = 10_000
    max_bytes: int = 4 * 2**30
    """Of all pages together, after decompression."""
    max_seconds: float = 3600.0
    """For the whole download."""
    max_redirects: int = 10
    """Of one page."""


class LimitError(RejectionError):
    """A file exceeds a limit."""

    def __init__(self, got: str, limit: str, setting: str) -> None:
        super().__init__(f"{got}, the limit is {limit}; raise {setting} to load it")


POLL_SECONDS = 0.05
"""Seconds between two checks of the memory, which take some 10 us each."""
_GROWTH = 64 * MEGABYTE
"""The growth in bytes before a file can be at fault: an earlier file may have left the process large."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Reader:
    """A DuckDB connection for reading files, reopened after an error has invalidated it."""

    def __init__(self, connect: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._connect = connect
        self.connection = connect()

    def renew(self) -> bool:
        """Reopen the connection if it is no longer usable, and return whether that was necessary."""
        if is_usable(self.connection):
            return False
        with suppress(duckdb.Error):
            self.connection.close()
        self.connection = self._connect()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def is_usable(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a connection accepts queries; after an INTERNAL or FATAL error of DuckDB it does not."""
    try:
        connection.execute("SELECT 1").fetchall()
    except duckdb.Error:
        return False
    return True


class Guard:
    """Interrupts queries that exceed the limits on time and memory; unless entered, it only holds the limits."""

    def __init__(
        self, limits: FileLimits | None = None, connection: Callable[[], duckdb.DuckDBPyConnection] | None = None
    ) -> None:
        self.limits = limits or FileLimits()
        self._connection = connection
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._deadline = float("inf")
        self._memory = 0
        self._exceeded: LimitError | None = None

    @contextmanager
    def watching(self, files: int = 1) -> Generator[None, None, None]:
        """Apply the limits to the block, which reads this many files. Raises LimitError when one is exceeded."""
        is_outermost = self._thread is not None and not self._memory
        if is_outermost:
            self._exceeded = None
            self._deadline = time.monotonic() + self.limits.max_file_seconds * files
            self._memory = max(self.limits.run_memory_bytes, memory() + _GROWTH)
        try:
            yield
        except Exception as error:
            if self._exceeded is None or isinstance(error, PipelineError):
                raise
            raise self._exceeded from None
        finally:
            if is_outermost:
                self._memory = 0
                self._deadline = float("inf")
                if self._exceeded is not None:
                    _give_back()

    def check(self) -> None:
        """Raise LimitError if a limit is exceeded; for long work outside of a query."""
        if self._exceeded is not None:
            raise self._exceeded

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if self._memory and self._exceeded is None:
                self._exceeded = self._found()
            if self._memory and self._exceeded is not None and self._connection is not None:
                # Repeatedly: an interrupt between two queries of a file has no effect.
                with suppress(duckdb.Error):
                    self._connection().interrupt()

    def _found(self) -> LimitError | None:
        if time.monotonic() > self._deadline:
            return LimitError("it takes too long to load", f"{self.limits.max_file_seconds:,g} s", "MAX_FILE_SECONDS")
        if memory() > self._memory > 0:
            limit = f"{self.limits.run_memory_bytes / MEGABYTE:,.0f} MB for the run"
            return LimitError("it takes too much memory to load", limit, self.limits.run_memory_source)
        return None


def spooled(blocks: Iterable[bytes], spool: Path, suffix: str) -> Path:
    """Write a text to a new file in the folder `spool` and return its path."""
    with NamedTemporaryFile(dir=spool, suffix=suffix, delete=False) as text:
        text.writelines(blocks)
    return Path(text.name)


def memory() -> int:
    """Return the resident memory of this process in bytes; 0 if the kernel does not report it."""
    try:
        with open("/proc/self/statm", "rb") as counted:  # noqa: PTH123 - twice as fast, and called often
            return int(counted.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _give_back() -> None:
    """Make the C library return free memory to the kernel, where it can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


# Detect files whose first bytes contradict the format in their name.

HEAD_BYTES = 4096
"""How many of the first bytes are checked."""

_TAR_AT = 257
_BYTES = {
    "a ZIP archive": rb"PK(\x03\x04|\x05\x06|\x07\x08)",
    "a gzip file": rb"\x1f\x8b",
    "a bzip2 file": rb"BZh[1-9]1AY&SY",
    "an xz file": rb"\xfd7zXZ\0",
    "a zstd file": rb"\x28\xb5\x2f\xfd",
    "a 7z archive": rb"7z\xbc\xaf\x27\x1c",
    "a RAR archive": rb"Rar!\x1a\x07",
    "a PDF document": rb"%PDF-",
    "an old Office document, such as an Excel .xls": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a Parquet file": rb"PAR1",
    "an Avro file": rb"Obj\x01",
    "an ORC file": rb"ORC[^,;\t|\r\n\w]",
    "an SQLite database": rb"SQLite format 3\0",
    "a picture": rb"\x89PNG|\xff\xd8\xff|GIF8[79]a",
    "text in UTF-32": rb"\xff\xfe\0\0|\0\0\xfe\xff|(?:[ -~]\0\0\0){4}|(?:\0\0\0[ -~]){4}",
    "text in UTF-16": rb"\xff\xfe|\xfe\xff|(?:[\t\r\n -~]\0){4}|(?:\0[\t\r\n -~]){4}",
}
_TEXTS = {
    "a Git LFS pointer, in place of the file": rb"version https://git-lfs\.github\.com/spec/",
    "an HTML page": rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?i:!doctype\s+html|html|head|body)\b",
    "an XML document": rb"(?:\xef\xbb\xbf)?\s*<\?xml\b",
}
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{\s*(?:"|\})|\[\s*(?:[\[{"\]]))')
_PATTERNS = [(kind, re.compile(pattern, re.DOTALL)) for kind, pattern in {**_BYTES, **_TEXTS}.items()]
_ANY = re.compile(b"|".join({**_BYTES, **_TEXTS}.values()), re.DOTALL)
"""Matches any of the patterns: most files match none and need no further test."""
_EXPECTED = {
    FileFormat.CSV: "CSV text",
    FileFormat.TSV: "text with tabs",
    FileFormat.JSON: "JSON",
    FileFormat.NDJSON: "JSON, one record a line",
    FileFormat.PARQUET: "a Parquet file",
    FileFormat.EXCEL: "a workbook",
    FileFormat.XML: "XML",
    FileFormat.FIXED_WIDTH: "text of fixed width",
}
_MENDING = {
    "text in UTF-16": "save it as UTF-8",
    "text in UTF-32": "save it as UTF-8",
    "a Git LFS pointer, in place of the file": "`git lfs pull` fetches the file itself",
}
_SPREADSHEET = re.compile(rb"\[Content_Types\]\.xml|_rels/|xl/|mimetypeapplication/vnd\.oasis")


def check_signature(head: bytes, file_format: FileFormat) -> None:
    """Raise RejectionError if a file's first bytes show another format than its name."""
    kind = kind_of(head, file_format)
    if kind is not None:
        mending = _MENDING.get(kind)
        raise RejectionError(
            f"expected {_EXPECTED[file_format]}, as its name says, got {kind}" + (f"; {mending}" if mending else "")
        )


def kind_of(head: bytes, file_format: FileFormat) -> str | None:
    """Return what a file's first bytes show, if that is not the format."""
    found = None
    if _ANY.match(head):
        found = next((kind for kind, pattern in _PATTERNS if pattern.match(head)), None)
    if found == "a ZIP archive" and _SPREADSHEET.search(head):
        return "a workbook of a spreadsheet, such as an Excel .xlsx"
    if found is None and head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive"
    if file_format is FileFormat.PARQUET:
        return None if found == "a Parquet file" else found
    if found is None and file_format in (FileFormat.CSV, FileFormat.TSV) and _JSON.match(head):
        return "JSON"
    return found


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str | None:
    """Return the encoding that a byte order mark names; None without one."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)
