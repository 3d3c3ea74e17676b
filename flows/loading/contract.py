"""The contract of an inbox: what becomes of columns that the table lacks, and of values that do not fit.

Only `evolve` changes the columns of a table that is there; `rescue` adds `_rescued` to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flows.errors import RejectionError
from flows.loading.file_result import shortened
from flows.loading.insert import Insertion
from flows.loading.row_checks import row_checks
from flows.readers.base import FileColumn, Reading, WrappedReading, raw
from flows.readers.column_types import JSON, TEXT, Conversion, is_nested, is_text
from flows.rules import Contract, LoadRules
from flows.source_file import SourceFile
from flows.sql_names import RESCUED, RESERVED_COLUMNS, TargetTable, literal
from flows.warehouse.base import TableColumn, Warehouse

_NUMBERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "BOOLEAN"})
"""Types whose values are JSON as they print; others could lose digits."""


def contracted(warehouse: Warehouse, insertion: Insertion, rules: LoadRules) -> Insertion:
    """Return how a file is inserted by its inbox's contract and the rules of its columns.

    Raises RejectionError for a file that they do not allow.
    """
    if not insertion.conversions:
        return insertion
    _check_declared(warehouse, insertion, rules)
    _check_required(insertion, rules)
    if rules.contract is not Contract.EVOLVE:
        insertion = _by_contract(warehouse, insertion, rules.contract)
    checks = row_checks(rules, insertion.conversions) if rules.columns else ()
    return replace(insertion, checks=tuple(checks)) if checks else insertion


def lacks_columns(names: Iterable[str], existing: Mapping[str, TableColumn], rules: LoadRules) -> bool:
    """Return whether the contract rejects a file with columns of these lower-case names because it has too few."""
    return rules.contract is Contract.FREEZE and not _own(existing).keys() <= frozenset(names)


def allows_widening(insertion: Insertion, names: Iterable[str], rules: LoadRules) -> bool:
    """Return whether these columns of the table may be widened for a file."""
    declared = {name.lower() for name, rule in rules.columns.items() if rule.type}
    return rules.contract is Contract.EVOLVE and not declared & {name.lower() for name in names}


def needs_whole(existing: Mapping[str, TableColumn], reading: Reading, rules: LoadRules) -> bool:
    """Return whether all rows have to decide on the types of a new table: with `rescue`, a value always fits."""
    return rules.contract is Contract.RESCUE and reading.is_sampled and not _own(existing)


def _own(existing: Mapping[str, TableColumn]) -> dict[str, TableColumn]:
    """Return the columns of the table that files have: all except the pipeline's."""
    return {name: column for name, column in existing.items() if name not in {*RESERVED_COLUMNS, RESCUED}}


def _check_declared(warehouse: Warehouse, insertion: Insertion, rules: LoadRules) -> None:
    """Raise RejectionError if the table has a column of another type than the rules declare."""
    in_file = {one.column.lower() for one in insertion.conversions}
    for name, rule in rules.columns.items():
        there = insertion.existing.get(name.lower())
        if rule.type is None or there is None or name.lower() not in in_file:
            continue
        wanted = warehouse.stored_type(rule.type)
        # A text of limited length is a text that is held to more than its type.
        if there.type != wanted and not (wanted == TEXT and is_text(there.type)):
            raise RejectionError(
                f'column "{there.name}" of {insertion.table} is {there.declared or there.type}, and the inbox\'s rules'
                f" say {rule.type}; change the rule, or the column by ALTER TABLE"
            )


def _check_required(insertion: Insertion, rules: LoadRules) -> None:
    """Raise RejectionError if the file lacks a column that the rules require."""
    in_file = {one.column.lower() for one in insertion.conversions}
    lacking = [name for name, rule in rules.columns.items() if rule.required and name.lower() not in in_file]
    if lacking:
        raise RejectionError(
            f"{_columns(lacking)} {'is' if len(lacking) == 1 else 'are'} not in the file, and the inbox's rules require"
            f" {'it' if len(lacking) == 1 else 'them'}"
        )


def _by_contract(warehouse: Warehouse, insertion: Insertion, contract: Contract) -> Insertion:
    there, names = _own(insertion.existing), {one.column.lower() for one in insertion.conversions}
    if contract is Contract.RESCUE and RESCUED in names:
        raise RejectionError(f'column "{RESCUED}": the pipeline\'s own name; rename it in the file')
    unknown = [one.column for one in insertion.conversions if one.is_new] if there else []
    if contract is Contract.FREEZE:
        missing = [column.name for name, column in there.items() if name not in names]
        if unknown or missing:
            raise RejectionError(_why_frozen(insertion.table, unknown, missing))
        return insertion
    check_kind(insertion)
    if contract is Contract.DISCARD:
        if not unknown:
            return insertion
        kept = tuple(at for at, one in enumerate(insertion.conversions) if not one.is_new)
        conversions = tuple(insertion.conversions[at] for at in kept)
        return replace(
            insertion,
            reading=ContractedReading(insertion.reading, insertion.conversions, kept),
            conversions=conversions,
            left_out=tuple(unknown),
        )
    kept = tuple(at for at, one in enumerate(insertion.conversions) if not (there and one.is_new))
    conversions = tuple(insertion.conversions[at] for at in kept)
    column = insertion.existing.get(RESCUED)
    rescued = Conversion(
        column.name if column else RESCUED,
        TEXT,
        column.type if column else warehouse.stored_type(JSON),
        is_new=column is None,
        form=column.form if column else None,
        declared=column.declared if column else None,
    )
    reading = ContractedReading(insertion.reading, insertion.conversions, kept, is_rescuing=True)
    return replace(insertion, reading=reading, conversions=(*conversions, rescued))


def _why_frozen(table: TargetTable, unknown: Sequence[str], missing: Sequence[str]) -> str:
    frozen = "and the inbox's contract is freeze"
    if not unknown:
        are = "is" if len(missing) == 1 else "are"
        return f"{_columns(missing)} of {table} {are} missing, {frozen}"
    said = f"{_columns(unknown)} {'is' if len(unknown) == 1 else 'are'} not in {table}, {frozen}"
    return f"{said}; missing: {_listed(missing)}" if missing else said


def _columns(names: Sequence[str]) -> str:
    return f"column{'' if len(names) == 1 else 's'} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{shortened(name)}"' for name in names)


_NAMED = 5
"""How many columns a reason names."""


def check_kind(insertion: Insertion) -> None:
    """Raise RejectionError for a file that has no column in common with its table: it is a different kind of file."""
    there = [column.name for column in _own(insertion.existing).values()]
    if there and insertion.conversions and all(one.is_new for one in insertion.conversions):
        raise RejectionError(
            f"none of its columns is in {insertion.table}: expected columns like {_some(there)}, got"
            f" {_some([one.column for one in insertion.conversions])}; a file of another kind belongs into an inbox"
            " with a table of its own"
        )


def _some(names: Sequence[str]) -> str:
    return f"{_listed(names[:_NAMED])} and {len(names) - _NAMED} more" if len(names) > _NAMED else _listed(names)


@dataclass(frozen=True)
class ContractedReading(WrappedReading):
    """A reading without the columns that the table lacks; with `rescue`, they and misfit values are a JSON object."""

    conversions: tuple[Conversion, ...]
    """The conversions of all columns of the inner reading."""
    kept: tuple[int, ...]
    """The positions of the columns that go into the table."""
    is_rescuing: bool = False

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        """The columns that go into the table."""
        columns = tuple(self.inner.columns[at] for at in self.kept)
        return (*columns, FileColumn(RESCUED, JSON)) if self.is_rescuing else columns

    @property
    def is_positional(self) -> bool:
        """False: the columns have been matched with the table's."""
        return False

    @property
    def shape(self) -> Hashable:
        """A key of its own: the file is read alone."""
        return ("contracted", self.file.name)

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type to read a column as."""
        return TEXT if self.is_rescuing and column.name == RESCUED else self.inner.read_type(column, target_type)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        scan = self.inner.scan([one.read_type for one in self.conversions], together)
        if not self.is_rescuing:
            columns = (f"{raw(at)} AS {raw(place)}" for place, at in enumerate(self.kept))
            return f"SELECT {', '.join(columns)} FROM ({scan})"
        checked = [at for at in self.kept if not self.conversions[at].is_free]
        casts = [f"{self.conversions[at].cast(raw(at))} AS cast{at}" for at in checked]
        fits = [f"{self._fits(at)} AS fits{at}" for at in checked]
        tested = f"SELECT *, {', '.join(fits)} FROM (SELECT *, {', '.join(casts)} FROM ({scan}))" if checked else scan
        columns = [
            f"{f'CASE WHEN fits{at} THEN {raw(at)} END' if at in checked else raw(at)} AS {raw(place)}"
            for place, at in enumerate(self.kept)
        ]
        parts = [self._part(at, f"{raw(at)} IS NOT NULL" if at not in self.kept else f"NOT fits{at}")
                 for at in range(len(self.conversions)) if at not in self.kept or at in checked]  # fmt: skip
        inside = f"nullif(concat_ws(',', {', '.join(parts)}), '')" if parts else "CAST(NULL AS VARCHAR)"
        return f"SELECT {', '.join(columns)}, '{{' || {inside} || '}}' AS {raw(len(self.kept))} FROM ({tested})"

    def _fits(self, at: int) -> str:
        conversion = self.conversions[at]
        return f"({conversion.holds(raw(at), f'cast{at}')} OR {conversion.is_null(raw(at))})"

    def _part(self, at: int, condition: str) -> str:
        """Return the SQL expression of a column's part of the JSON object: null unless it is rescued."""
        conversion, value = self.conversions[at], raw(at)
        if conversion.read_type in _NUMBERS or is_nested(conversion.read_type):
            json = f"CAST(to_json({value}) AS VARCHAR)"
        elif conversion.read_type == JSON:
            json = f"CAST({value} AS VARCHAR)"
        else:
            json = f"CAST(to_json(CAST({value} AS VARCHAR)) AS VARCHAR)"
        name = f"CAST(to_json({literal(conversion.column)}) AS VARCHAR)"
        return f"CASE WHEN {condition} THEN {name} || ':' || {json} END"
