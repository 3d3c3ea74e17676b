"""Loading one file: its rows, the columns they need and its load key in one transaction, or nothing.

Many small files are loaded together (`bulk_loading`), with the same outcome.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from flows.failures import RefusedError, RejectionError
from flows.file_reader import read_plan
from flows.insertion import Insertion, planned
from flows.load_keys import LoadKey
from flows.misfit import MISFIT, describe_misfit
from flows.outline import Outline, Plan
from flows.quoting import pattern
from flows.reading import Reading
from flows.refusal import describe_refusal
from flows.rejection_reason import is_files_fault, one_line, reason_of
from flows.reload import Reload
from flows.row_order import any_order
from flows.source_file import Rejected
from flows.target_table import TargetTable
from flows.verdict import Outcome, Verdict
from flows.warehouse import Warehouse


@dataclass(frozen=True)
class Loader:
    """Loads the files of one arrival into one table."""

    warehouse: Warehouse
    table: TargetTable
    arrival_id: str
    batch_size: int | None = None
    """How many rows are inserted at a time; None: all of a file at once, which is fastest."""
    reload: Reload = field(default_factory=Reload)
    """Which files are loaded again, in place of their rows."""

    def load(self, plans: Sequence[Plan]) -> Iterator[Verdict]:
        """Load one file after the other and yield what became of each.

        Raises what a warehouse raises for what is no file's fault; the files before are loaded then.
        """
        self.warehouse.create_loads(self.table)
        for plan in plans:
            yield self.load_one(plan)

    def load_one(self, plan: Plan) -> Verdict:
        """Load a file, after a look at its values if there was but a glance, and return what became of it."""
        if isinstance(plan, Outline):
            plan = read_plan(self.warehouse.reader, plan.file)
        return self._rejected(plan) if isinstance(plan, Rejected) else self._loaded_once(plan)

    def _rejected(self, plan: Rejected) -> Verdict:
        return Verdict(plan.name, Outcome.REJECTED, 0, plan.size, 0.0, plan.reason)

    def _loaded_once(self, reading: Reading) -> Verdict:
        began = time.monotonic()
        file = reading.file
        key = LoadKey(self.arrival_id, file.name, str(self.table))
        rows = self.warehouse.loaded_rows(self.table, key)
        try:
            if rows is None or self.reload.covers(file.name):
                load = self._load(reading, key)
            else:
                load = _Load(Outcome.SKIPPED, rows)
        except RejectionError as rejection:
            load = _Load(Outcome.REJECTED, reason=one_line(str(rejection)))
        seconds = round(time.monotonic() - began, 3)
        return Verdict(file.name, load.outcome, load.rows, file.size, seconds, load.reason, load.replaced)

    def _load(self, reading: Reading, key: LoadKey) -> _Load:
        """Load a file, unless another run has done so meanwhile. Raises RejectionError, and then changes nothing."""
        try:
            # In batches the order matters: they are windows of numbered rows.
            with any_order(self.warehouse.reader, reading.file.size if self.batch_size is None else 0):
                return self._transaction(reading, key)
        except _MisfitError as misfit:
            if not reading.is_sampled:
                raise RejectionError(self._described(misfit.insertion)) from None
        # A new column may be of another type than its first rows say: ask all of them, once.
        plan = read_plan(self.warehouse.reader, reading.file, whole=True)
        if isinstance(plan, Rejected):
            raise RejectionError(plan.reason)
        return self._load(plan, key)

    def _transaction(self, reading: Reading, key: LoadKey) -> _Load:
        now = datetime.now(UTC)
        insertion = None
        try:
            with self.warehouse.transaction(self.table, self.arrival_id):
                covered = self.reload.covers(key.file_name)
                there = self.warehouse.loaded_meanwhile(self.table, self.arrival_id, [key.file_name])
                if there and not covered:
                    return _Load(Outcome.SKIPPED, there[key.file_name])
                insertion = self._planned(reading)
                insertion.add_columns(self.warehouse)
                # After the columns: somebody may have dropped the table or made it anew since the earlier load.
                replaced = self.warehouse.remove_load(self.table, key) if covered else None
                rows = insertion.insert(self.warehouse, self.arrival_id, now, self.batch_size)
                self.warehouse.record_loads(self.table, self.arrival_id, [reading.file], [rows], now)
        except BaseException as error:
            if insertion and MISFIT in str(error):
                raise _MisfitError(insertion) from None
            if insertion and isinstance(error, RefusedError):
                raise RejectionError(describe_refusal(self.warehouse.reader, insertion, error)) from None
            if is_files_fault(error, reading.file) or _is_about(error, reading):
                raise RejectionError(reason_of(error, reading.file)) from None
            raise
        return _Load(Outcome.LOADED, rows, replaced)

    def _planned(self, reading: Reading) -> Insertion:
        insertion = planned(self.warehouse, reading, self.table)
        if insertion.is_adding and self.warehouse.lock_columns(self.table):
            return planned(self.warehouse, reading, self.table)
        return insertion

    def _described(self, insertion: Insertion) -> str:
        said = describe_misfit(self.warehouse.reader, insertion.reading, insertion.scan, insertion.conversions)
        return said or MISFIT


@dataclass(frozen=True)
class _Load:
    """What became of a file, as in its verdict."""

    outcome: Outcome
    rows: int = 0
    replaced: int | None = None
    reason: str | None = None


class _MisfitError(Exception):
    """A value does not fit its column; which one, nobody has looked yet."""

    def __init__(self, insertion: Insertion) -> None:
        super().__init__(MISFIT)
        self.insertion = insertion


def _is_about(error: BaseException, reading: Reading) -> bool:
    """Tell whether it is the file that cannot be read, rather than the warehouse that cannot be written."""
    name = reading.file.path.name
    return isinstance(error, duckdb.IOException) and (name in str(error) or pattern(name) in str(error))
