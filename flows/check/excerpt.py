"""Excerpts of a rejected file: the line that the rejection names, with its neighbours and the wrong value marked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from flows.errors import RejectionError
from flows.readers.csv_records import LINE_END
from flows.readers.guard import Guard, unpacked
from flows.source_file import FileFormat, SourceFile

LONGEST = 160
"""How many characters of a line are shown, roughly."""
_LINE = re.compile(r"\bline ([\d,]+)")
_VALUE = re.compile(r'column ".*?": "(.*)" is not ')
_CHUNK = 1 << 20
_KEPT = 1 << 20
"""How many bytes of a line are kept."""
_TEXTS = frozenset({FileFormat.CSV, FileFormat.TSV, FileFormat.JSON, FileFormat.NDJSON})


@dataclass(frozen=True)
class Line:
    """A line of a file, or a piece of it: its text is `before`, then `marked`, then `after`."""

    number: int
    before: str
    marked: str = ""
    after: str = ""
    is_at_fault: bool = False


def excerpt(file: SourceFile, reason: str, guard: Guard) -> tuple[Line, ...]:
    """Return the line that a reason names, the lines before and after it, and line 1; empty if it names no line.

    Lines that cannot be read are left out.
    """
    found = _LINE.search(reason)
    if found is None or file.format not in _TEXTS:
        return ()
    number = int(found[1].replace(",", ""))
    wanted = {1, number - 1, number, number + 1} - {0}
    lines: list[Line] = []
    with suppress(OSError, EOFError, zlib.error, RejectionError):
        for at, text in _numbered(_chunks(file, guard), wanted):
            lines.append(_shown(at, text, reason if at == number else None))
    return tuple(lines)


def _chunks(file: SourceFile, guard: Guard) -> Iterator[bytes]:
    if file.is_gzipped:
        yield from unpacked(file.path, guard)
        return
    with file.path.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            guard.check()
            yield chunk


def _numbered(chunks: Iterable[bytes], wanted: set[int]) -> Iterator[tuple[int, str]]:
    """Yield the wanted lines with their numbers; a long line is cut to its first `_KEPT` bytes."""
    number, last, line = 1, max(wanted), b""
    is_after_return = False
    for chunk in chunks:
        # A CRLF that is split between two chunks is one line end.
        text = chunk[1:] if is_after_return and chunk[:1] == b"\n" else chunk
        is_after_return = chunk[-1:] == b"\r"
        at = 0
        for end in LINE_END.finditer(text):
            if number in wanted:
                yield number, (line + text[at : min(end.start(), at + _KEPT)]).decode("utf-8", "backslashreplace")
            number, line, at = number + 1, b"", end.end()
            if number > last:
                return
        if number in wanted:
            line = (line + text[at : at + _KEPT])[:_KEPT]
    if line:
        yield number, line.decode("utf-8", "backslashreplace")


def _shown(number: int, text: str, reason: str | None) -> Line:
    value = _VALUE.search(reason) if reason else None
    wanted = value[1].removesuffix("...") if value else ""
    at = _place(text, wanted) if wanted else -1
    if at < 0:
        return Line(number, _cut(text), is_at_fault=reason is not None)
    end = at + len(wanted)
    start = max(0, at - LONGEST // 2) if end > LONGEST else 0
    before = ("..." if start else "") + text[start:at]
    return Line(
        number, before, _cut(text[at:end]), _cut(text[end:], max(20, LONGEST - (end - start))), is_at_fault=True
    )


def _place(text: str, value: str) -> int:
    """Return the position of a value in a line, preferably as a whole field; -1 if the line does not contain it."""
    whole = re.search(rf"""(?:^|[,;\t|:]\s*)["']?({re.escape(value)})["']?\s*(?=$|[,;\t|}}\]])""", text)
    return whole.start(1) if whole else text.find(value)


def _cut(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
