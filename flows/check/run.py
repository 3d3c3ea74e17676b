"""`python -m flows.check.run`: check the files of a request, which is read as JSON from standard input.

The request has these keys:

- `files`: a list of objects with `path`, `name`, `shown` (the file's name in the response), `out` (the file to write
  its rows to, or null) and `rules` (how it is read and loaded, as an inbox's rules, or null);
- `table`: `catalog.schema.table`, or null for the table that the rules name, or a new one;
- `cpu_seconds`: a limit on CPU time, or null; with it the kernel also limits memory and file sizes.

The response is one line of JSON per file, in the same order. An error that prevents checking is a line with `mistakes`
and exit status 2. Settings and table name are checked even without files. Waits are reported on standard error.
"""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import duckdb
from pydantic import ValidationError

from flows.check.scratch import ScratchWarehouse, Target, duplicate_key, read_target, scratch_reader
from flows.errors import PermanentError, PipelineError, RejectionError, one_line
from flows.extract_config import extract_config
from flows.loading.bulk import BulkLoader
from flows.loading.file_result import Outcome, converted
from flows.loading.header_scan import HeaderScan, plans_of, weight
from flows.loading.insert import named_columns, planned
from flows.loading.loader import BIG, Loader
from flows.readers.base import FileColumn, Reading
from flows.readers.compression import unpacked
from flows.readers.csv_files import CsvReading
from flows.readers.csv_records import LINE_END
from flows.readers.formatted import FormattedReading
from flows.readers.guard import Guard
from flows.readers.ruled import RuledReading
from flows.rules import NO_RULES, LoadRules, mistakes_in, rules_of
from flows.settings import PipelineSettings, read_settings
from flows.source_file import FileFormat, Rejected, SourceFile, compression_of, format_of
from flows.sources.files import examined
from flows.sql_names import TargetTable, identifier, literal
from flows.warehouse.address import table_in
from flows.warehouse.duckdb import in_memory_reader

# Check files one at a time: load each into a scratch warehouse as a run would, and report format, columns and rows.
#
# A rejected file is reported with its reason and an excerpt of its lines. The rows can be written to a Parquet file.

FIRST_ROWS = 10
_SHOWN_COLUMNS = 60
"""How many columns the first rows have at most."""
_LONGEST_VALUE = 200
_LONG_INTEGERS = frozenset({"HUGEINT", "UHUGEINT"})
"""DuckDB 2.0 writes these types into Parquet as DOUBLE (measured)."""


class CheckResult(StrEnum):
    """Whether a file would load."""

    LOADS = "loads"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Format:
    """The format of a file; if the file cannot be read, only what its name says is known."""

    kind: str | None
    compression: str | None = None
    """Its suffix, such as `gz`."""
    delimiter: str | None = None
    quote: str | None = None
    """Empty: the file has no quote character."""
    encoding: str | None = None
    header_line: int | None = None


@dataclass(frozen=True)
class CheckedColumn:
    """A column of a file, and the column of the table that its values are inserted into."""

    name: str
    type: str | None
    """None: the file has no rows to infer the type from."""
    table_name: str | None
    table_type: str | None
    is_new: bool
    """Whether the load would add the column to the table."""


@dataclass(frozen=True)
class FileCheck:
    """The result of checking one file."""

    file: str
    outcome: CheckResult
    reason: str | None = None
    format: Format | None = None
    columns: tuple[CheckedColumn, ...] = ()
    rows: int = 0
    quarantined: int = 0
    """How many rows would be put aside."""
    first_rows: tuple[tuple[str | None, ...], ...] = ()
    """The values as texts, cut to `_LONGEST_VALUE` characters."""
    excerpt: tuple[Line, ...] = ()
    """The lines around the line that the reason names."""


class Checker:
    """Checks files against one table, each file independently of the others."""

    def __init__(
        self, settings: PipelineSettings, target: Target, folder: Path, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """`folder` holds unpacked files and data that exceeds memory; `say` gets a message at each wait."""
        self._settings = settings
        self._target = target
        self._folder = folder
        self._say = say
        self._limit = settings.warehouse_memory_limit
        self._reader = in_memory_reader(self._limit, folder / "reader.tmp")
        self._scratch = scratch_reader(target, self._limit, folder, on_disk=False)

    def check(
        self,
        path: Path,
        shown: str,
        out: Path | None = None,
        name: str | None = None,
        rules: LoadRules = NO_RULES,
    ) -> FileCheck:
        """Load a file into a scratch table and return the result.

        `shown` is the file's name in the result; `name` is its real name if the path has another, such as the path of a
        file descriptor. With `out`, the rows that would be loaded are written to that file. Raises PipelineError,
        duckdb.Error and OSError for errors that the file did not cause.
        """
        name = name or path.name
        known = (FileFormat(rules.known_format), compression_of(name)) if rules.known_format else format_of(name)
        kind = Format(known[0].value, known[1]) if known else None
        try:
            file = examined(path, name, path.stat(), rules.known_format)
        except OSError as error:
            return FileCheck(shown, CheckResult.REJECTED, f"cannot be read: {error.strerror}", kind)
        with (
            TemporaryDirectory(dir=self._folder, prefix="file-") as own,
            Guard(self._settings.file_limits, lambda: self._reader.connection) as guard,
        ):
            (plan,) = plans_of(self._reader, [file], Path(own), guard, rules)
            if isinstance(plan, Rejected):
                lines = excerpt(file, plan.reason, guard) if isinstance(file, SourceFile) else ()
                return FileCheck(shown, CheckResult.REJECTED, plan.reason, kind, excerpt=lines)
            with self._warehouse(plan.file, Path(own)) as warehouse:
                return self._loaded(warehouse, plan, FileCheck(shown, CheckResult.LOADS), Path(own), out, rules)

    def _loaded(
        self,
        warehouse: ScratchWarehouse,
        plan: Reading | HeaderScan,
        found: FileCheck,
        own: Path,
        out: Path | None,
        rules: LoadRules,
    ) -> FileCheck:
        """Load a planned file into the scratch table, and read columns and first rows from it."""
        reading = plan.reading if isinstance(plan, HeaderScan) else plan
        found = replace(found, format=_format(reading))
        with Guard(self._settings.file_limits, lambda: warehouse.reader) as guard:
            known = _columns(warehouse, reading)
            loader = Loader(warehouse, self._target.table, f"check-{secrets.token_hex(8)}", guard=guard, rules=rules)
            ((result,),) = BulkLoader(loader).load([plan])
            reason = result.reason if result.outcome is Outcome.REJECTED else None
            reason = reason or duplicate_key(warehouse, self._settings, self._say, own)
            if reason is not None:
                lines = excerpt(reading.file, reason, guard)
                return replace(found, outcome=CheckResult.REJECTED, reason=reason, columns=known, excerpt=lines)
        columns = _columns(warehouse, reading, is_loaded=True)
        first = _first_rows(warehouse, reading, columns, is_ordered=rules.bad_rows is not None)
        if out is not None:
            _write(warehouse, columns, out)
        return replace(found, columns=columns, rows=result.rows, quarantined=result.quarantined, first_rows=first)

    @contextmanager
    def _warehouse(self, file: SourceFile, folder: Path) -> Generator[ScratchWarehouse]:
        """Provide an empty warehouse for a file: on disk for a big file, which may not fit into memory."""
        with ExitStack() as held:
            reader = self._scratch
            if weight(file) >= BIG:
                reader = held.enter_context(scratch_reader(self._target, self._limit, folder, on_disk=True))
            warehouse = ScratchWarehouse(reader, self._target)
            warehouse.begin_file()
            yield warehouse

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.connection.close()
        self._scratch.connection.close()


def _format(reading: Reading) -> Format:
    file = reading.file
    if not isinstance(reading, CsvReading):
        return Format(file.format.value, file.compression)
    layout = reading.layout
    return Format(
        file.format.value,
        file.compression,
        layout.dialect.delimiter,
        layout.dialect.quote,
        "UTF-8",
        layout.header_line,
    )


def _columns(warehouse: ScratchWarehouse, reading: Reading, *, is_loaded: bool = False) -> tuple[CheckedColumn, ...]:
    """Return the columns of a file, with types from its sample, or as loaded with `is_loaded`."""
    target = warehouse.target
    known = warehouse.columns(target.table)
    columns: list[CheckedColumn] = []
    for column in _named(reading, target):
        is_new = column.name.lower() not in target.columns
        there = known.get(column.name.lower())
        stored = there.type if there else warehouse.stored_type(column.new_type)
        seen = stored if is_new and is_loaded else column.new_type
        shown = target.shown_type(stored) if is_new else stored
        columns.append(CheckedColumn(column.name, seen, there.name if there else column.name, shown, is_new))
    inner = reading.inner if isinstance(reading, RuledReading) else reading
    if not columns and isinstance(inner, CsvReading | FormattedReading):
        for name in inner.names:
            there = target.columns.get(name.lower())
            columns.append(
                CheckedColumn(name, None, there.name if there else None, there.type if there else None, there is None)
            )
    return tuple(columns)


def _named(reading: Reading, target: Target) -> Sequence[FileColumn]:
    """Return a file's columns; those without names have those of the table, if it has as many."""
    try:
        return named_columns(reading, target.table, target.columns)
    except RejectionError:
        return reading.columns


def _first_rows(
    warehouse: ScratchWarehouse, reading: Reading, columns: tuple[CheckedColumn, ...], *, is_ordered: bool
) -> tuple[tuple[str | None, ...], ...]:
    shown = [one for one in columns if one.type is not None][:_SHOWN_COLUMNS]
    if not shown:
        return ()
    if reading.file.size >= BIG and not is_ordered:  # the rows of a big file are loaded in any order
        insertion = planned(warehouse, reading, warehouse.target.table)
        source = f"({converted(insertion.scan, insertion.conversions, is_checked=True)})"
        names = [f"value{at}" for at in range(len(shown))]
    else:
        source = f"{warehouse.target.table.sql} ORDER BY rowid"
        names = [identifier(one.table_name or "") for one in shown]
    texts = ", ".join(f"left(CAST({name} AS VARCHAR), {_LONGEST_VALUE})" for name in names)
    return tuple(warehouse.reader.execute(f"SELECT {texts} FROM {source} LIMIT {FIRST_ROWS}").fetchall())


def _write(warehouse: ScratchWarehouse, columns: tuple[CheckedColumn, ...], out: Path) -> None:
    """Write the rows into a Parquet file, atomically."""
    if not columns:
        return
    table = warehouse.target.table.sql
    types = {name: one.type for name, one in warehouse.columns(warehouse.target.table).items()}
    values: list[str] = []
    for one in columns:
        name = identifier(one.table_name or one.name)
        if one.type is None:
            values.append(f"CAST(NULL AS VARCHAR) AS {name}")
        elif (type_ := types[(one.table_name or one.name).lower()]) in _LONG_INTEGERS:
            lost = (
                f"SELECT count(*) FROM {table} WHERE {name} IS NOT NULL AND TRY_CAST({name} AS DECIMAL(38, 0)) IS NULL"
            )
            ((is_too_long,),) = warehouse.reader.execute(lost).fetchall()
            values.append(f"CAST({name} AS {'VARCHAR' if is_too_long else 'DECIMAL(38, 0)'}) AS {name}")
        else:
            values.append(f"CAST({name} AS VARCHAR) AS {name}" if type_ == "TIME WITH TIME ZONE" else name)
    partial = out.with_name(f".{secrets.token_hex(8)}.part")
    try:
        warehouse.reader.execute(
            f"COPY (SELECT {', '.join(values)} FROM {table} ORDER BY rowid) TO {literal(str(partial))} (FORMAT parquet)"
        )
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


# Excerpts of a rejected file: the line that the rejection names, with its neighbours and the wrong value marked.

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
    if file.compression:
        yield from unpacked(file, guard)
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


_RESERVED = 2 << 30
_LARGEST_FILE = 1 << 30


def main() -> None:
    """Check the files of the request and print the results."""
    request: dict[str, Any] = json.load(sys.stdin)
    try:
        for answer in answers(request):
            print(json.dumps(answer), flush=True)
    except (PipelineError, duckdb.Error, OSError, MemoryError) as error:
        print(json.dumps({"mistakes": [one_line(str(error)) or "out of memory"]}), flush=True)
        sys.exit(2)


def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the result of each file. Raises PipelineError, duckdb.Error, OSError."""
    settings = read_settings()
    if request["cpu_seconds"] is not None:
        _limit(request["cpu_seconds"], settings.file_limits.run_memory_bytes)
    _table(settings, request["table"])
    if not request["files"]:
        return
    with TemporaryDirectory(prefix="check-") as made, ExitStack() as held:
        checkers: dict[str | None, Checker] = {}
        for number, file in enumerate(request["files"]):
            rules = _rules(file.get("rules"))
            named = request["table"] or rules.table_of(file["name"])
            if named is None and rules.tables:
                why = f"no pattern of the rule `tables` fits its name; there are {', '.join(rules.tables)}"
                yield asdict(FileCheck(file["shown"], CheckResult.REJECTED, why))
                continue
            if named not in checkers:
                folder = Path(made, str(number))
                folder.mkdir()
                target = read_target(settings, _table(settings, named), _say, folder, is_new=named is None)
                checkers[named] = held.enter_context(Checker(settings, target, folder, _say))
            out = Path(file["out"]) if file["out"] else None
            yield asdict(checkers[named].check(Path(file["path"]), file["shown"], out, file["name"], rules))


def _rules(written: Mapping[str, Any] | None) -> LoadRules:
    try:
        return rules_of(written) if written else NO_RULES
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one.place))}: {one.message}" for one in mistakes_in(error))
        raise PermanentError(f"rules: {said}") from None


def _limit(cpu_seconds: int, memory: int) -> None:
    """Set kernel limits on this process, and make it the first to be killed when memory is short."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    # RLIMIT_AS counts reserved memory, used or not: DuckDB's threads and Python reserve up to 1.3 GiB more (measured).
    resource.setrlimit(resource.RLIMIT_AS, (memory + _RESERVED, memory + _RESERVED))
    os.nice(10)
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _table(settings: PipelineSettings, given: str | None) -> TargetTable:
    if given is None:
        address = settings.warehouse()
        return TargetTable(address.catalog, "public", "checked")
    try:
        table = extract_config("file:///", given, 1, None).table
    except PermanentError as error:
        raise PermanentError(str(error).replace("target_table: ", "--table: ", 1)) from None
    return table_in(settings.warehouse(table.catalog), table)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
