"""Detect files whose first bytes contradict the format in their name."""

from __future__ import annotations

import re

from flows.errors import RejectionError
from flows.source_file import FileFormat

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
}
_MENDING = {
    "text in UTF-16": "save it as UTF-8",
    "text in UTF-32": "save it as UTF-8",
    "a Git LFS pointer, in place of the file": "`git lfs pull` fetches the file itself",
}
_SPREADSHEET = re.compile(rb"\[Content_Types\]\.xml|_rels/|xl/|mimetypeapplication/vnd\.oasis")


def check_signature(head: bytes, file_format: FileFormat) -> None:
    """Raise RejectionError if a file's first bytes show another format than its name."""
    kind = _kind_of(head, file_format)
    if kind is not None:
        mending = _MENDING.get(kind)
        raise RejectionError(
            f"expected {_EXPECTED[file_format]}, as its name says, got {kind}" + (f"; {mending}" if mending else "")
        )


def _kind_of(head: bytes, file_format: FileFormat) -> str | None:
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
