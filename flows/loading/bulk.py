"""Load the files of an arrival: small files together, hundreds in one transaction, all others one by one.

The outcome is the same as loading them one by one in order. If all columns of a file exist and its values fit, its
result depends neither on other files nor on when it is loaded. Only a file that brings a new column, or needs a wider
one, affects others. A file with a new column is loaded alone, in its turn. Before a file that needs a wider column, all
files ahead of it are loaded. In a table with a unique key, rows of one file can conflict with those of another, so
nothing is loaded together; nor if rows replace others or are compared with them: these files are loaded one by one in
the order of their names.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from flows.errors import ColumnsChangedError, is_infrastructure_error
from flows.loading.contract import lacks_columns
from flows.loading.file_result import COLUMNS_AT_ONCE, FileResult, Outcome
from flows.loading.header_scan import HeaderScan, Plan, weight
from flows.loading.insert import StagingTable, matched, read_together
from flows.loading.loader import Loader, WouldWidenError
from flows.rules import WriteMode
from flows.source_file import Rejected
from flows.sql_names import RESERVED_COLUMNS, pattern
from flows.warehouse.base import TableColumn

FILES_AT_ONCE = 500
BYTES_AT_ONCE = 32_000_000
"""The most files, and the most bytes of text, in one transaction: some tenths of a second's work."""

_Item = TypeVar("_Item")
FileResults = tuple[FileResult, ...]
"""The results of files that were loaded together."""


@dataclass
class BulkLoader:
    """Loads the files of one arrival into one table."""

    loader: Loader
    """Loads single files: every file that cannot be loaded with others."""
    _columns: Mapping[str, TableColumn] = field(default_factory=dict[str, TableColumn], init=False)
    _groups: dict[Hashable, _Group] = field(default_factory=dict[Hashable, "_Group"], init=False)
    """Files waiting to be loaded together, by shape."""
    _places: Mapping[str, int] = field(default_factory=dict[str, int], init=False)
    """The position of each file among all, by name."""

    def load(self, plans: Sequence[Plan]) -> Iterator[FileResults]:
        """Load all files and yield their results, in the order in which they become known.

        Raises the warehouse's errors that no file has caused; the files whose results were yielded are loaded then.
        """
        warehouse, table = self.loader.warehouse, self.loader.table
        warehouse.create_loads(table)
        if self._is_one_by_one:
            yield from ((self.loader.load_one(plan),) for plan in self._in_order(plans))
            return
        loaded = warehouse.loads_of_arrival(table, self.loader.arrival_id)
        self._columns = warehouse.columns(table)
        self._places = {_name_of(plan): at for at, plan in enumerate(plans)}
        for plan in plans:
            if not isinstance(plan, HeaderScan) or self.loader.reload.covers(plan.file.name):
                yield from self._alone(plan)
            elif plan.file.name in loaded:
                yield (FileResult(plan.file.name, Outcome.SKIPPED, loaded[plan.file.name], plan.file.size, 0.0),)
            elif (
                self._is_for_one(plan)
                or len(plan.names) > COLUMNS_AT_ONCE
                or not plan.names | RESERVED_COLUMNS.keys() <= self._columns.keys()
            ):
                yield from self._alone(plan)
            elif self._groups.setdefault(plan.shape, _Group()).fills_up(plan):
                yield from self._together(self._groups.pop(plan.shape).files)
        while self._groups:
            yield from self._together(self._groups.pop(next(iter(self._groups))).files)

    def _is_for_one(self, plan: HeaderScan) -> bool:
        """Return whether the inbox's rules may reject the file, which only loading it by itself finds out."""
        rules = self.loader.rules
        return rules.rows is not None or (bool(plan.names) and lacks_columns(plan.names, self._columns, rules))

    @property
    def _is_one_by_one(self) -> bool:
        """Whether rows of one file may decide which rows of another are taken, or stay."""
        loader = self.loader
        is_append = loader.rules.write.mode is WriteMode.APPEND
        return loader.batch_size is not None or not is_append or loader.warehouse.has_unique_rows(loader.table)

    def _in_order(self, plans: Sequence[Plan]) -> Sequence[Plan]:
        return plans if self.loader.rules.write.mode is WriteMode.APPEND else sorted(plans, key=_name_of)

    def _alone(self, plan: Plan) -> Iterator[FileResults]:
        """Load one file; if it needs a wider column, load all files ahead of it first."""
        try:
            result = self.loader.load_one(plan, may_widen=not self._groups)
        except WouldWidenError:
            yield from self._before(plan)
            result = self.loader.load_one(plan)
        if not isinstance(plan, Rejected):
            self._columns = self.loader.warehouse.columns(self.loader.table)
        yield (result,)

    def _before(self, plan: Plan) -> Iterator[FileResults]:
        """Load the waiting files that come before this one."""
        place = self._places[_name_of(plan)]
        for shape, group in list(self._groups.items()):
            earlier = [one for one in group.files if self._places[one.file.name] < place]
            later = [one for one in group.files if self._places[one.file.name] > place]
            self._groups[shape] = _Group(later, sum(weight(one.file) for one in later))
            yield from self._together(earlier)

    def _together(self, files: Sequence[HeaderScan]) -> Iterator[FileResults]:
        """Load files of one shape whose columns all exist."""
        if len(files) < 2:
            for one in files:
                yield from self._alone(one)
            return
        began = time.monotonic()
        insertion = matched(self.loader.warehouse, files[0].reading, self.loader.table, self._columns)
        try:
            with self.loader.guard.watching(len(files)):
                incoming = read_together(self.loader.warehouse, insertion, [one.file for one in files])
        except Exception as error:
            if is_infrastructure_error(error, [one.file for one in files]):
                raise
            self.loader.warehouse.renew_reader()
            bad = _named_in(error, files)
            at = next((at for at, one in enumerate(files) if one is bad), None)
            if at is None:
                for half in _halves(files):
                    yield from self._together(half)
            else:
                yield from self._together(files[:at])
                yield from self._alone(files[at])
                yield from self._together(files[at + 1 :])
            return
        good = incoming.good(self.loader.guard.limits, [one.reading.rows for one in files])
        bad_results, end = self._misfits(files, good)
        yield from self._written(incoming, files, [at for at in good if at < end], began)
        yield from bad_results
        if end < len(files):
            yield from self._alone(files[end])
            yield from self._together(files[end + 1 :])

    def _misfits(self, files: Sequence[HeaderScan], good: Sequence[int]) -> tuple[list[FileResults], int]:
        """Load the files that are not good one by one, up to the first that needs a wider column.

        Returns their results, and the position of that first file: it and all after it are still to be loaded.
        """
        results = list[FileResults]()
        for at in sorted(set(range(len(files))) - set(good)):
            try:
                results.append((self.loader.load_one(files[at], may_widen=False),))
            except WouldWidenError:
                return results, at
        return results, len(files)

    def _written(
        self, incoming: StagingTable, files: Sequence[HeaderScan], places: Sequence[int], began: float
    ) -> Iterator[FileResults]:
        """Write the rows of the files at these positions; if the table rejects any, write each half separately."""
        there: Mapping[str, int] = {}
        try:
            if places:
                there = incoming.write(self.loader.arrival_id, places, datetime.now(UTC))
        except ColumnsChangedError:  # by another run, since the rows were converted
            self._columns = self.loader.warehouse.columns(self.loader.table)
            for place in places:
                yield from self._alone(files[place])
            return
        except Exception as error:
            if is_infrastructure_error(error, [one.file for one in files]):
                raise
            # With a new reader the staging table is gone.
            if self.loader.warehouse.renew_reader() or len(places) == 1:
                for place in places:
                    yield from self._alone(files[place])
                return
            for half in _halves(places):
                yield from self._written(incoming, files, half, began)
            return
        seconds = round((time.monotonic() - began) / max(1, len(places)), 6)
        written = ((incoming.files[place], incoming.rows[place]) for place in places)
        yield tuple(
            FileResult(file.name, Outcome.SKIPPED, there[file.name], file.size, 0.0)
            if file.name in there
            else FileResult(file.name, Outcome.LOADED, rows, file.size, seconds)
            for file, rows in written
        )


@dataclass
class _Group:
    """Files of one shape that wait to be loaded."""

    files: list[HeaderScan] = field(default_factory=list[HeaderScan])
    bytes: int = 0

    def fills_up(self, scan: HeaderScan) -> bool:
        """Add a file; return whether the group is big enough for a transaction."""
        self.files.append(scan)
        self.bytes += weight(scan.file)
        return len(self.files) >= FILES_AT_ONCE or self.bytes >= BYTES_AT_ONCE


def _name_of(plan: Plan) -> str:
    return plan.name if isinstance(plan, Rejected) else plan.file.name


def _halves(items: Sequence[_Item]) -> tuple[Sequence[_Item], Sequence[_Item]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _named_in(error: BaseException, files: Sequence[HeaderScan]) -> HeaderScan | None:
    """Return the file that an error message names, if it names one."""
    message = str(error).partition("\nLINE 1:")[0]  # the rest quotes the query, which names all files
    named = [one for one in files if (path := str(one.file.path)) in message or pattern(path) in message]
    return max(named, key=lambda one: len(str(one.file.path)), default=None)
