"""Load one file: its rows, the columns they need and its load key in one transaction, or nothing.

Many small files are loaded together (flows/loading/bulk.py), with the same outcome.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from flows.errors import (
    ColumnsChangedError,
    RejectionError,
    RowRejectedError,
    TemporaryError,
    is_infrastructure_error,
    load_key_errors,
    may_be_the_warehouses,
    original_of,
    reason_of,
)
from flows.loading.contract import ContractedReading, allows_widening, check_kind, contracted, needs_whole
from flows.loading.file_result import MISMATCH, FileResult, Outcome, converted, describe_mismatch
from flows.loading.header_scan import HeaderScan, Plan
from flows.loading.insert import Insertion, Widening, describe_refusal, planned, widening_of
from flows.loading.quarantine import Quarantine, quarantine
from flows.loading.row_checks import VIOLATION, check_row_count, check_unique, describe_violation
from flows.loading.write_modes import BadKeyError, Writer, describe_bad_key, needs_order, newer_load
from flows.readers.base import WIDE, Reading, one_thread
from flows.readers.column_types import is_text
from flows.readers.csv_files import CsvReading
from flows.readers.guard import Guard
from flows.readers.registry import with_types
from flows.readers.ruled import RuledReading
from flows.rules import NO_RULES, LoadRules, WriteMode
from flows.source_file import Rejected, SourceFile
from flows.sql_names import RESERVED_COLUMNS, TargetTable
from flows.warehouse.base import LoadKey, Warehouse

_TRIES = 4
"""How often a file is planned again because other runs changed the table's columns, before the task is retried."""
ALL_FILES = "*"
"""Stands for every file of the arrival."""


@dataclass(frozen=True)
class Reload:
    """The names of the files to load again, in place of their rows.

    >>> Reload(frozenset({"north/orders.csv"})).covers("orders.csv")
    False
    """

    names: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Return whether this file is loaded again."""
        return ALL_FILES in self.names or name in self.names

    def not_found(self, files: Sequence[SourceFile | Rejected]) -> tuple[Rejected, ...]:
        """Return a rejection for each name that no file has, so that no one assumes its rows were replaced."""
        missing = self.names - {ALL_FILES, *(file.name for file in files)}
        return tuple(Rejected(name, 0, "the source has no file of this name to reload") for name in sorted(missing))


BIG = 32_000_000
"""Size in bytes from which a file's rows may be inserted in any order.

To keep the order, two threads hand their rows over to each other. For a million rows of 5 columns, this takes 1.4 s of
CPU and 0.88 s instead of 1.05 s and 0.62 s (measured, DuckDB 2.0), and memory that grows with the file.
"""


@contextmanager
def any_order(connection: duckdb.DuckDBPyConnection, size: int) -> Generator[None, None, None]:
    """Within the block, let the rows of a file of `size` bytes come in any order, if it is big."""
    if size < BIG:
        yield
        return
    connection.execute("SET preserve_insertion_order = false")
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # an error may have invalidated the connection
            connection.execute("RESET preserve_insertion_order")


@dataclass(frozen=True)
class Loader:
    """Loads the files of one arrival into one table."""

    warehouse: Warehouse
    table: TargetTable
    arrival_id: str
    batch_size: int | None = None
    """How many rows are inserted at a time; None inserts all rows of a file together, which is fastest."""
    reload: Reload = field(default_factory=Reload)
    """The files to load again, in place of their rows."""
    guard: Guard = field(default_factory=Guard)
    """Enforces the limits on each file."""
    rules: LoadRules = NO_RULES
    """How files are loaded."""

    def load_one(self, plan: Plan, *, may_widen: bool = True) -> FileResult:
        """Load a file and return its result; if only its header was scanned, its values are read first.

        An error affects this file only, unless the machine is at fault: then it is raised. Raises WouldWidenError for a
        file that needs wider columns when `may_widen` is false.
        """
        if isinstance(plan, Rejected):
            return self._rejected(plan)
        began = time.monotonic()
        file = plan.file
        try:
            with self.guard.watching():
                load = self._loaded_once(plan, may_widen=may_widen)
        except WouldWidenError:
            raise
        except Exception as error:
            if is_infrastructure_error(error, [file]):
                raise
            load = _Load(Outcome.REJECTED, reason=self._reason(error, plan), original=original_of(error, file))
        seconds = round(time.monotonic() - began, 3)
        return FileResult(
            file.name,
            load.outcome,
            load.rows,
            file.size,
            seconds,
            load.reason,
            load.replaced,
            load.original,
            load.widened,
            load.quarantined,
            load.not_taken,
            load.left_out,
        )

    def _rejected(self, plan: Rejected) -> FileResult:
        """Return the result of a file that cannot be loaded as it is now; an earlier run may have loaded it."""
        key = LoadKey(self.arrival_id, plan.name, str(self.table))
        if not self.reload.covers(plan.name):
            with load_key_errors():
                rows = self.warehouse.loaded_rows(self.table, key)
            if rows is not None:
                return FileResult(plan.name, Outcome.SKIPPED, rows, plan.size, 0.0)
        return FileResult(plan.name, Outcome.REJECTED, 0, plan.size, 0.0, plan.reason, original=plan.original)

    def _reason(self, error: Exception, plan: Reading | HeaderScan) -> str:
        """Return why a file is rejected. Raises TemporaryError if the warehouse fails and the file can be read."""
        self.warehouse.renew_reader()
        if may_be_the_warehouses(error) and self._can_be_read(plan):
            raise TemporaryError(f"the warehouse fails: {original_of(error, plan.file)}") from error
        return plan.file.change() or reason_of(error, plan.file)

    def _can_be_read(self, known: Reading | HeaderScan) -> bool:
        """Return whether a file can be read by itself; writes nothing to the table."""
        try:
            with self.guard.watching():
                plan = self._with_types(known)
                if isinstance(plan, Rejected):
                    return False
                insertion = planned(self.warehouse, plan, self.table)
                rows = converted(insertion.scan, insertion.conversions)
                self.warehouse.reader.execute(f"CREATE OR REPLACE TEMP TABLE staging AS {rows}")
                self.warehouse.reader.execute("DROP TABLE temp.main.staging")
        except Exception as error:
            if is_infrastructure_error(error, [known.file]):
                raise
            self.warehouse.renew_reader()
            return False
        return True

    def _with_types(self, plan: Reading | HeaderScan) -> Reading | Rejected:
        reading = plan.reading if isinstance(plan, HeaderScan) else plan
        return with_types(self.warehouse.reader, reading, self.guard, whole=False)

    def _loaded_once(self, plan: Reading | HeaderScan, *, may_widen: bool) -> _Load:
        reading = self._with_types(plan) if isinstance(plan, HeaderScan) else plan
        if isinstance(reading, Rejected):
            raise RejectionError(reading.reason)
        key = LoadKey(self.arrival_id, reading.file.name, str(self.table))
        with load_key_errors():
            rows = self.warehouse.loaded_rows(self.table, key)
        if rows is None or self.reload.covers(key.file_name):
            return self._load(reading, key, may_widen=may_widen)
        return _Load(Outcome.SKIPPED, rows)

    def _load(self, reading: Reading, key: LoadKey, *, may_widen: bool) -> _Load:
        """Load a file, unless another run has done so meanwhile. Raises RejectionError, and then changes nothing."""
        for _ in range(_TRIES):
            with suppress(ColumnsChangedError):
                return self._loaded(reading, key, may_widen=may_widen)
        return self._loaded(reading, key, may_widen=may_widen)

    def _loaded(self, reading: Reading, key: LoadKey, *, may_widen: bool) -> _Load:
        if reading.is_sampled and needs_whole(self.warehouse.columns(self.table), reading, self.rules):
            reading = self._whole(reading)
        try:
            return self._inserted(reading, key)
        except _MismatchError as mismatch:
            misfit = mismatch.insertion
        except BadKeyError as bad:
            raise RejectionError(describe_bad_key(self.warehouse.reader, bad)) from None
        if reading.is_sampled:
            # The type of a new column may differ from what its first rows suggest: read all of them, once.
            return self._loaded(self._whole(reading), key, may_widen=may_widen)
        widening = widening_of(self.warehouse.reader, misfit)
        if widening is None or not allows_widening(misfit, widening.after, self.rules):
            return self._good_ones(reading, key, misfit)
        if not may_widen:
            raise WouldWidenError
        try:
            return self._inserted(reading, key, widening)
        except _MismatchError:
            return self._good_ones(reading, key, misfit)
        except BadKeyError as bad:
            raise RejectionError(describe_bad_key(self.warehouse.reader, bad)) from None

    def _whole(self, reading: Reading) -> Reading:
        """Return the reading with its columns' types from all rows. Raises RejectionError."""
        plan = with_types(self.warehouse.reader, reading, self.guard, whole=True)
        if isinstance(plan, Rejected):
            raise RejectionError(plan.reason)
        return plan

    def _good_ones(self, reading: Reading, key: LoadKey, misfit: Insertion) -> _Load:
        """Load the rows that fit, and put the others aside; without such a rule, reject the file."""
        if self.rules.bad_rows is None:
            raise RejectionError(self._described(misfit))
        return self._inserted(reading, key, has_misfits=True)

    def _inserted(
        self, reading: Reading, key: LoadKey, widening: Widening | None = None, *, has_misfits: bool = False
    ) -> _Load:
        """Insert the rows and the load key in one transaction. Raises _MismatchError, and then changes nothing."""
        # In batches the order matters: they are windows of numbered rows. So it does for rows that are put aside.
        keeps_order = self.batch_size is not None or needs_order(self.rules.write) or self.rules.bad_rows is not None
        with (
            any_order(self.warehouse.reader, 0 if keeps_order else reading.file.size),
            one_thread(self.warehouse.reader) if len(reading.columns) > WIDE else nullcontext(),
        ):
            try:
                return self._transaction(reading, key, widening, has_misfits=has_misfits)
            except _ViolationError as error:
                violation = error.insertion
        raise RejectionError(self._violated(violation))

    def _transaction(self, reading: Reading, key: LoadKey, widening: Widening | None, *, has_misfits: bool) -> _Load:
        now = datetime.now(UTC)
        insertion = None
        try:
            with self.warehouse.transaction(self.table, self.arrival_id):
                covered = self.reload.covers(key.file_name)
                rule = self.rules.write
                if covered or rule.mode is not WriteMode.APPEND:
                    self.warehouse.lock_rows(self.table)
                with load_key_errors():
                    there = self.warehouse.loaded_meanwhile(self.table, self.arrival_id, [key.file_name])
                if there and not covered:
                    return _Load(Outcome.SKIPPED, there[key.file_name])
                with load_key_errors():
                    newer = newer_load(self.warehouse, self.table, key, rule.mode)
                if newer:
                    return _Load(Outcome.SKIPPED, reason=newer)
                if widening:
                    self._widen(widening)
                insertion = self._planned(reading)
                _check_new_texts(insertion)
                aside = self._put_aside(insertion, has_misfits=has_misfits)
                insertion.add_columns(self.warehouse)
                # After the columns: the table may have been dropped or recreated since the earlier load.
                with load_key_errors():
                    removed = self.warehouse.remove_load(self.table, key) if covered else None
                if covered:
                    self.warehouse.remove_rows(self.table.rejected, key)
                insertion = aside.good
                written = Writer(self.warehouse, insertion, rule, self.arrival_id, now, self.batch_size).write()
                self.guard.limits.check_rows(written.rows)
                _check_rows(reading, written.rows + aside.misfits)
                check_row_count(self.rules, written.rows)
                check_unique(self.warehouse.reader, insertion, insertion.scan, insertion.conversions, self.rules)
                aside.write(self.warehouse, key, now)
                with load_key_errors():
                    self.warehouse.record_loads(self.table, self.arrival_id, [reading.file], [written.rows], now)
                _check_unchanged(reading.file)
        except BaseException as error:
            if insertion and MISMATCH in str(error):
                raise _MismatchError(insertion) from None
            if insertion and insertion.checks and VIOLATION in str(error):
                raise _ViolationError(insertion) from None
            if insertion and isinstance(error, RowRejectedError):
                raise RejectionError(describe_refusal(self.warehouse.reader, insertion, error)) from None
            raise
        deleted = [count for count in (removed, written.replaced) if count is not None]
        return _Load(
            Outcome.LOADED,
            written.taken,
            sum(deleted) if deleted else None,
            widened=widening.lines if widening else (),
            left_out=insertion.left_out,
            not_taken=written.rows - written.taken,
            quarantined=aside.count,
        )

    def _put_aside(self, insertion: Insertion, *, has_misfits: bool) -> Quarantine:
        if self.rules.bad_rows is None:
            return Quarantine(insertion)
        return quarantine(self.warehouse.reader, insertion, self.rules.bad_rows, may_misfit=has_misfits)

    def _widen(self, widening: Widening) -> None:
        """Widen columns of the table, unless another run has changed them since. Raises ColumnsChangedError."""
        self.warehouse.lock_columns(self.table)
        there = {column.name: column.type for column in self.warehouse.columns(self.table).values()}
        if any(there.get(name) != type_ for name, type_ in widening.before.items()):
            raise ColumnsChangedError(self.table)
        self.warehouse.widen_columns(self.table, widening.before, widening.after)

    def _planned(self, reading: Reading) -> Insertion:
        insertion = self._by_rules(reading)
        if insertion.is_adding and self.warehouse.lock_columns(self.table):
            insertion = self._by_rules(reading)
        added = sum(one.is_new for one in insertion.conversions)
        self.guard.limits.check_table_columns(len(insertion.existing.keys() - RESERVED_COLUMNS.keys()), added)
        check_kind(insertion)
        return insertion

    def _by_rules(self, reading: Reading) -> Insertion:
        return contracted(self.warehouse, planned(self.warehouse, reading, self.table), self.rules)

    def _violated(self, insertion: Insertion) -> str:
        """Return why a file is rejected that breaks a rule of its inbox."""
        scan, checks = insertion.scan, insertion.checks
        said = describe_violation(self.warehouse.reader, insertion, scan, insertion.conversions, checks)
        return said or VIOLATION

    def _described(self, insertion: Insertion) -> str:
        said = describe_mismatch(self.warehouse.reader, insertion.reading, insertion.scan, insertion.conversions)
        return said or MISMATCH


@dataclass(frozen=True)
class _Load:
    """Result of loading a file, for its `FileResult`."""

    outcome: Outcome
    rows: int = 0
    replaced: int | None = None
    reason: str | None = None
    original: str | None = None
    widened: tuple[str, ...] = ()
    quarantined: int = 0
    left_out: tuple[str, ...] = ()
    not_taken: int = 0


def _check_new_texts(insertion: Insertion) -> None:
    """Raise RejectionError if new columns of a CSV file are text only because its second line has names as well."""
    texts = [one.column for one in insertion.conversions if one.is_new and is_text(one.target_type)]
    reading = insertion.reading
    while isinstance(reading, ContractedReading | RuledReading):
        reading = reading.inner
    if texts and isinstance(reading, CsvReading):
        reading.check_second_line(texts)


def _check_rows(reading: Reading, rows: int) -> None:
    """Raise RejectionError if not all rows were read, so that the load is rolled back."""
    if reading.rows is not None and rows != reading.rows:
        raise RejectionError(f"expected {reading.rows:,} rows, as many as the file has, and {rows:,} were read")


def _check_unchanged(file: SourceFile) -> None:
    """Raise RejectionError if a file has changed since it was first checked, so that the load is rolled back."""
    if change := file.change():
        raise RejectionError(change)


class WouldWidenError(Exception):
    """A file needs wider columns of the table, and files ahead of it have to be loaded first."""


class _ViolationError(Exception):
    """A value breaks a rule of its inbox; which value is not known yet."""

    def __init__(self, insertion: Insertion) -> None:
        super().__init__(VIOLATION)
        self.insertion = insertion


class _MismatchError(Exception):
    """A value does not fit its column; which value is not known yet."""

    def __init__(self, insertion: Insertion) -> None:
        super().__init__(MISMATCH)
        self.insertion = insertion
