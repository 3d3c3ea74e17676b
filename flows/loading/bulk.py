"""Loading an arrival: its small files together, hundreds in one transaction, all else one by one.

That gives the outcome of loading them one by one in their order: what becomes of a file whose columns are all there and
fit depends neither on the other files nor on when it is loaded. Only a file that brings a new column, or needs one
wider, decides about others. The first kind is loaded alone, in its turn; before one of the second kind all files are
loaded that come before it. And where rows of one file can forbid those of another, in a table with a key, nothing is
loaded together.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from flows.errors import ColumnsChangedError, is_machines_fault
from flows.loading.file_result import FileResult, Outcome
from flows.loading.header_scan import HeaderScan, Plan, weight
from flows.loading.insert import StagingTable, matched, read_together
from flows.loading.loader import Loader, WouldWidenError
from flows.loading.mismatch import COLUMNS_AT_ONCE
from flows.source_file import Rejected
from flows.sql_names import RESERVED_COLUMNS, pattern
from flows.warehouse.base import TableColumn

FILES_AT_ONCE = 500
BYTES_AT_ONCE = 32_000_000
"""How many files, and how many bytes of text, one transaction takes at most: some tenths of a second's work."""

_Item = TypeVar("_Item")
FileResults = tuple[FileResult, ...]
"""What became of the files that were loaded together."""


@dataclass
class BulkLoader:
    """Loads the files of one arrival into one table."""

    loader: Loader
    """Loads one by one, and is asked about every file that cannot be loaded with others."""
    _columns: Mapping[str, TableColumn] = field(default_factory=dict[str, TableColumn], init=False)
    _groups: dict[Hashable, _Group] = field(default_factory=dict[Hashable, "_Group"], init=False)
    """Files that wait to be loaded together, by their shapes."""
    _places: Mapping[str, int] = field(default_factory=dict[str, int], init=False)
    """The place of each file among all, by its name."""

    def load(self, plans: Sequence[Plan]) -> Iterator[FileResults]:
        """Load all files and yield what became of them, in the order in which that is known.

        Raises what a warehouse raises for what is no file's fault; what was yielded is loaded then.
        """
        warehouse, table = self.loader.warehouse, self.loader.table
        warehouse.create_loads(table)
        if self.loader.batch_size is not None or warehouse.has_unique_rows(table):
            for plan in plans:
                yield (self.loader.load_one(plan),)
            return
        loaded = warehouse.loads_of_arrival(table, self.loader.arrival_id)
        self._columns = warehouse.columns(table)
        self._places = {_name_of(plan): at for at, plan in enumerate(plans)}
        for plan in plans:
            if not isinstance(plan, HeaderScan) or self.loader.reload.covers(plan.file.name):
                yield from self._alone(plan)
            elif plan.file.name in loaded:
                yield (FileResult(plan.file.name, Outcome.SKIPPED, loaded[plan.file.name], plan.file.size, 0.0),)
            elif len(plan.names) > COLUMNS_AT_ONCE or not plan.names | RESERVED_COLUMNS.keys() <= self._columns.keys():
                yield from self._alone(plan)
            elif self._groups.setdefault(plan.shape, _Group()).fills_up(plan):
                yield from self._together(self._groups.pop(plan.shape).files)
        while self._groups:
            yield from self._together(self._groups.pop(next(iter(self._groups))).files)

    def _alone(self, plan: Plan) -> Iterator[FileResults]:
        """Load a file by itself; if it needs a column wider, after all that come before it."""
        try:
            result = self.loader.load_one(plan, may_widen=not self._groups)
        except WouldWidenError:
            yield from self._before(plan)
            result = self.loader.load_one(plan)
        if not isinstance(plan, Rejected):
            self._columns = self.loader.warehouse.columns(self.loader.table)
        yield (result,)

    def _before(self, plan: Plan) -> Iterator[FileResults]:
        """Load the files that wait and come before this one."""
        place = self._places[_name_of(plan)]
        for shape, group in list(self._groups.items()):
            earlier = [one for one in group.files if self._places[one.file.name] < place]
            later = [one for one in group.files if self._places[one.file.name] > place]
            self._groups[shape] = _Group(later, sum(weight(one.file) for one in later))
            yield from self._together(earlier)

    def _together(self, files: Sequence[HeaderScan]) -> Iterator[FileResults]:
        """Load files of one shape whose columns are all there."""
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
            if is_machines_fault(error, [one.file for one in files]):
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
        """Load those that are not good by themselves, up to the first that needs a column wider.

        Returns what became of them, and the place of that first one: it and all after it are still to be loaded.
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
        """Write the rows of the files at these places; if the table refuses any, those of each half by themselves."""
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
            if is_machines_fault(error, [one.file for one in files]):
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
        """Add a file; tell whether that is enough for a transaction."""
        self.files.append(scan)
        self.bytes += weight(scan.file)
        return len(self.files) >= FILES_AT_ONCE or self.bytes >= BYTES_AT_ONCE


def _name_of(plan: Plan) -> str:
    return plan.name if isinstance(plan, Rejected) else plan.file.name


def _halves(items: Sequence[_Item]) -> tuple[Sequence[_Item], Sequence[_Item]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _named_in(error: BaseException, files: Sequence[HeaderScan]) -> HeaderScan | None:
    """Return the file that an error is about, if it says so."""
    message = str(error).partition("\nLINE 1:")[0]  # after that it quotes the query, which names all of them
    named = [one for one in files if (path := str(one.file.path)) in message or pattern(path) in message]
    return max(named, key=lambda one: len(str(one.file.path)), default=None)
