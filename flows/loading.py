"""Loading one file: its rows, the columns they need and its load key in one transaction, or nothing.

Many small files are loaded together (`bulk_loading`), with the same outcome.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from flows.failures import RejectionError
from flows.file_reader import read_plan
from flows.insertion import Insertion, planned
from flows.load_keys import LoadKey, create_loads, loaded_rows, record_load, remove_load
from flows.misfit import MISFIT, describe_misfit
from flows.outline import Outline, Plan
from flows.quoting import pattern
from flows.reading import Reading
from flows.rejection_reason import is_files_fault, one_line, reason_of
from flows.reload import Reload
from flows.row_order import any_order
from flows.source_file import Rejected
from flows.target_table import TargetTable
from flows.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Loader:
    """Loads the files of one arrival into one table."""

    connection: duckdb.DuckDBPyConnection
    table: TargetTable
    arrival_id: str
    batch_size: int | None = None
    """How many rows are inserted at a time; None: all of a file at once, which is fastest."""
    reload: Reload = field(default_factory=Reload)
    """Which files are loaded again, in place of their rows."""

    def load(self, plans: Sequence[Plan]) -> Iterator[Verdict]:
        """Load one file after the other and yield what became of each.

        Raises duckdb.Error for what is no file's fault, such as a full disk; the files before are loaded then.
        """
        create_loads(self.connection, self.table)
        for plan in plans:
            yield self.load_one(plan)

    def load_one(self, plan: Plan) -> Verdict:
        """Load a file, after a look at its values if there was but a glance, and return what became of it."""
        if isinstance(plan, Outline):
            plan = read_plan(self.connection, plan.file)
        return self._rejected(plan) if isinstance(plan, Rejected) else self._loaded_once(plan)

    def _rejected(self, plan: Rejected) -> Verdict:
        return Verdict(plan.name, Outcome.REJECTED, 0, plan.size, 0.0, plan.reason)

    def _loaded_once(self, reading: Reading) -> Verdict:
        began = time.monotonic()
        file = reading.file
        key = LoadKey(self.arrival_id, file.name, str(self.table))
        rows = loaded_rows(self.connection, self.table, key)
        outcome, reason, replaced = Outcome.SKIPPED, None, None
        if rows is None or self.reload.covers(file.name):
            try:
                outcome, (rows, replaced) = Outcome.LOADED, self._load(reading, key)
            except RejectionError as rejection:
                outcome, rows, reason = Outcome.REJECTED, 0, one_line(str(rejection))
        return Verdict(file.name, outcome, rows, file.size, round(time.monotonic() - began, 3), reason, replaced)

    def _load(self, reading: Reading, key: LoadKey) -> tuple[int, int | None]:
        """Load a file and return how many rows it has, and how many of its earlier load they replace, if there was one.

        Raises RejectionError, and then has changed nothing.
        """
        try:
            # In batches the order matters: they are windows of numbered rows.
            with any_order(self.connection, reading.file.size if self.batch_size is None else 0):
                return self._transaction(reading, key)
        except _MisfitError as misfit:
            if not reading.is_sampled:
                raise RejectionError(self._described(misfit.insertion)) from None
        # A new column may be of another type than its first rows say: ask all of them, once.
        plan = read_plan(self.connection, reading.file, whole=True)
        if isinstance(plan, Rejected):
            raise RejectionError(plan.reason)
        return self._load(plan, key)

    def _transaction(self, reading: Reading, key: LoadKey) -> tuple[int, int | None]:
        now = datetime.now(UTC)
        self.connection.begin()
        insertion = planned(self.connection, reading, self.table)
        try:
            insertion.add_columns(self.connection)
            # After the columns: somebody may have dropped the table or made it anew since the earlier load.
            covered = self.reload.covers(key.file_name)
            replaced = remove_load(self.connection, self.table, key) if covered else None
            rows = insertion.insert(self.connection, self.arrival_id, now, self.batch_size)
            record_load(self.connection, self.table, key, rows=rows, size=reading.file.size, at=now)
            self.connection.commit()
        except BaseException as error:
            self.connection.rollback()
            if MISFIT in str(error):
                raise _MisfitError(insertion) from None
            if is_files_fault(error, reading.file) or _is_about(error, reading):
                raise RejectionError(reason_of(error, reading.file)) from None
            raise
        return rows, replaced

    def _described(self, insertion: Insertion) -> str:
        said = describe_misfit(self.connection, insertion.reading, insertion.scan, insertion.conversions)
        return said or MISFIT


class _MisfitError(Exception):
    """A value does not fit its column; which one, nobody has looked yet."""

    def __init__(self, insertion: Insertion) -> None:
        super().__init__(MISFIT)
        self.insertion = insertion


def _is_about(error: BaseException, reading: Reading) -> bool:
    """Tell whether it is the file that cannot be read, rather than the warehouse that cannot be written."""
    name = reading.file.path.name
    return isinstance(error, duckdb.IOException) and (name in str(error) or pattern(name) in str(error))
