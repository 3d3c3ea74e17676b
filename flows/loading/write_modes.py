"""Write a file's rows in the mode that the rules give: append them, or replace rows of the table.

All of it happens in the transaction that writes the load key, so readers see the rows from before until it commits, and
a load that fails changes nothing. Loads of one table in these modes run one after the other (`Warehouse.lock_rows`).

The modes that compare keys put the file's rows into a temporary table first. A key's values are compared by the
table's database and types, and are never null.

`replace` deletes rows and does not truncate: in PostgreSQL, TRUNCATE blocks readers, and those with an older snapshot
find the table empty. A file without rows leaves the table empty; the rule `rows` can forbid that.

Which file is newer, for `replace` and `replace_same_name`: arrivals are ordered by the time in their ids, and the files
of an arrival by name. An arrival id without a time is from a run by hand, and counts as of the time of the load. Of two
arrivals in the same second, the one that is loaded last is the newer. A file that is older than a loaded one changes
nothing and gets no load key: it is skipped with the newer file's name, as often as it is loaded.

A file that is loaded again (`reload`) first loses the rows of its own that are still in the table, and is then written
in the same mode. An upsert cannot restore the rows that its earlier load replaced, and replaces rows of later loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from flows.errors import RejectionError, TemporaryError
from flows.loading.file_result import converted, shortened
from flows.loading.insert import Insertion
from flows.readers.column_types import JSON
from flows.rules import WriteMode, WriteRule
from flows.sql_names import TargetTable, identifier, literal
from flows.warehouse.base import LoadKey, Warehouse

_KEYED = frozenset({WriteMode.UPSERT, WriteMode.INSERT_NEW, WriteMode.DELETE_INSERT})
_ONCE = frozenset({WriteMode.UPSERT, WriteMode.INSERT_NEW})
"""The modes in which a file must not have a key twice."""
_STAGED = "staged"


@dataclass(frozen=True)
class Written:
    """The result of writing a file's rows."""

    rows: int
    """How many rows the file has."""
    taken: int
    """How many of them are in the table."""
    replaced: int | None = None
    """How many rows of the table were deleted for them; None if the mode deletes none."""


class BadKeyError(Exception):
    """A row of the file has no key, or that of another row; which row is not known yet."""

    def __init__(self, insertion: Insertion, key: tuple[str, ...], *, is_null: bool) -> None:
        super().__init__("a key is null, or there twice")
        self.insertion = insertion
        self.key = key
        self.is_null = is_null


def needs_order(rule: WriteRule) -> bool:
    """Return whether the rows have to be written in the file's order."""
    return rule.mode in _ONCE and rule.duplicates == "last"


def newer_load(warehouse: Warehouse, table: TargetTable, key: LoadKey, mode: WriteMode) -> str | None:
    """Return which loaded file is newer than this one, if the mode keeps the newest; None otherwise."""
    if mode not in {WriteMode.REPLACE, WriteMode.REPLACE_SAME_NAME}:
        return None
    if mode is WriteMode.REPLACE:
        last = max(warehouse.loads_of_arrival(table, key.arrival_id), default="")
        if last > key.file_name:
            return f"{last} of the same arrival is newer, and was loaded before"
    found = warehouse.query(_newer(warehouse, table, key, mode))
    return f"{found[0][1]} of arrival {found[0][0]} is newer, and was loaded before" if found else None


def _newer(warehouse: Warehouse, table: TargetTable, key: LoadKey, mode: WriteMode) -> str:
    of_id, at = r"'^.+-(\d{8}-\d{6})-[0-9a-f]+$', '\1'", r"'^(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d).*$'"
    time = f"regexp_replace(arrival_id, {of_id})"
    loaded = rf"regexp_replace(CAST(loaded_at AS VARCHAR), {at}, '\1\2\3-\4\5\6')"  # the session is in UTC
    same_name = f" AND file_name = {literal(key.file_name)}" if mode is WriteMode.REPLACE_SAME_NAME else ""
    mine = literal(key.arrival_id)
    return (
        "SELECT arrival_id, file_name FROM"
        f" (SELECT arrival_id, file_name, CASE WHEN {time} <> arrival_id THEN {time} ELSE {loaded} END AS moment,"
        f" regexp_replace({mine}, {of_id}) AS mine"
        f" FROM {warehouse.loads_name(table)} WHERE target_table = {literal(str(table))}{same_name}) AS loads"
        f" WHERE mine <> {mine} AND moment > mine ORDER BY moment DESC LIMIT 1"
    )


@dataclass(frozen=True)
class Writer:
    """Writes the rows of one file, within the transaction of its load."""

    warehouse: Warehouse
    insertion: Insertion
    rule: WriteRule
    arrival_id: str
    at: datetime
    batch_size: int | None = None

    def write(self) -> Written:
        """Write the rows. Raises BadKeyError, RejectionError and the warehouse's errors."""
        mode = self.rule.mode
        if mode in _KEYED:
            return self._keyed()
        replaced = None
        if mode is not WriteMode.APPEND:
            name = literal(self.insertion.reading.file.name)
            where = f" WHERE _file_name = {name}" if mode is WriteMode.REPLACE_SAME_NAME else ""
            replaced = self.warehouse.change(f"DELETE FROM {self._table}{where}")
        rows = self.insertion.insert(self.warehouse, self.arrival_id, self.at, self.batch_size)
        return Written(rows, rows, replaced)

    @property
    def _table(self) -> str:
        return self.warehouse.table_name(self.insertion.table)

    def _keyed(self) -> Written:
        if not self.insertion.conversions:  # a file without rows
            return Written(0, 0, None if self.rule.mode is WriteMode.INSERT_NEW else 0)
        key = self._key()
        names = self._names(self.insertion.columns)
        number = _unused("_number", names) if needs_order(self.rule) else None
        rows = self.insertion.stage(self.warehouse, self.arrival_id, self.at, number)
        keys = ", ".join(map(identifier, key))
        nulls = " OR ".join(f"{identifier(name)} IS NULL" for name in key)
        if self.warehouse.query(f"SELECT 1 FROM {_STAGED} WHERE {nulls} LIMIT 1"):
            raise BadKeyError(self.insertion, key, is_null=True)
        taken = rows
        if number:
            taken -= self._drop_all_but_the_last(key, identifier(number))
        elif self.rule.mode in _ONCE and self.warehouse.query(
            f"SELECT 1 FROM {_STAGED} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        ):
            raise BadKeyError(self.insertion, key, is_null=False)
        columns = ", ".join(map(identifier, names))
        insert = f"INSERT INTO {self._table} ({columns}) SELECT {columns} FROM {_STAGED} AS new"
        replaced = None
        if self.rule.mode is WriteMode.INSERT_NEW:
            same = " AND ".join(f"old.{identifier(name)} = new.{identifier(name)}" for name in key)
            taken = self.warehouse.change(
                f"{insert} WHERE NOT EXISTS (SELECT 1 FROM {self._table} AS old WHERE {same})"
            )
        else:
            old = f"DELETE FROM {self._table} WHERE ({keys}) IN (SELECT {keys} FROM {_STAGED})"
            replaced = self.warehouse.change(old)
            inserted = self.warehouse.change(insert)
            if inserted != taken:
                raise TemporaryError(f"expected {taken:,} rows to be inserted, got {inserted:,}; all are rolled back")
        self.warehouse.unstage()
        return Written(rows, taken, replaced)

    def _drop_all_but_the_last(self, key: tuple[str, ...], number: str) -> int:
        """Delete the staged rows whose key comes again later in the file, and return how many."""
        keys = ", ".join(map(identifier, key))
        same = " AND ".join(f"{_STAGED}.{identifier(name)} = last_rows.{identifier(name)}" for name in key)
        repeated = f"SELECT {keys}, max({number}) AS last_row FROM {_STAGED} GROUP BY {keys} HAVING count(*) > 1"
        return self.warehouse.change(
            f"DELETE FROM {_STAGED} USING ({repeated}) AS last_rows"
            f" WHERE {same} AND {_STAGED}.{number} < last_rows.last_row"
        )

    def _key(self) -> tuple[str, ...]:
        """Return the key's columns by the table's names. Raises RejectionError if the file does not have them all."""
        there = {one.column.lower(): one for one in self.insertion.conversions}
        wanted = self.rule.key or ()
        missing = [name for name in wanted if name.lower() not in there]
        if missing:
            named = ", ".join(f'"{shortened(name)}"' for name in missing)
            raise RejectionError(
                f"column{'s' if len(missing) > 1 else ''} {named} of the key missing: mode {self.rule.mode} needs a"
                " value of each key column in every row"
            )
        for name in wanted:
            if there[name.lower()].target_type == JSON:
                raise RejectionError(f'column "{name}" is JSON, which a key cannot be: its values have no one form')
        return self._names(wanted)

    def _names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return columns by the table's names: PostgreSQL compares them with regard to case."""
        columns = self.warehouse.columns(self.insertion.table)
        return tuple(columns[name.lower()].name for name in names)


def _unused(name: str, names: tuple[str, ...]) -> str:
    """Return a name that no column has."""
    used = {one.lower() for one in names}
    while name in used:
        name += "_"
    return name


def describe_bad_key(reader: duckdb.DuckDBPyConnection, bad: BadKeyError) -> str:
    """Return the line of the first row without a key, or of the second row of a key; reads the file once more.

    PostgreSQL may consider values equal that differ in the file; the line is then unknown.
    """
    insertion = bad.insertion
    columns = [one.column.lower() for one in insertion.conversions]
    at = [columns.index(name.lower()) for name in bad.key]
    keys = [f"value{one}" for one in at]
    names = [insertion.conversions[one].column for one in at]
    numbered = (
        f"SELECT row_number() OVER () AS row, {', '.join(keys)}"
        f" FROM ({converted(insertion.scan, insertion.conversions)})"
    )
    if bad.is_null:
        nulls = " OR ".join(f"{key} IS NULL" for key in keys)
        found = reader.execute(f"SELECT * FROM ({numbered}) WHERE {nulls} ORDER BY row LIMIT 1").fetchall()
        if not found:
            return f"a key column has no value: {', '.join(names)}"
        name = next(name for name, value in zip(names, found[0][1:], strict=True) if value is None)
        return f'{insertion.place_of(found[0][0])}, column "{name}": no value, and it is in the key'
    by = f"OVER (PARTITION BY {', '.join(keys)} ORDER BY row)"
    again = f"SELECT *, first_value(row) {by} AS first, row_number() {by} AS nth FROM ({numbered})"
    texts = ", ".join(f"CAST({key} AS VARCHAR)" for key in keys)
    query = f"SELECT row, first, {texts} FROM ({again}) WHERE nth = 2 ORDER BY row LIMIT 1"
    found = reader.execute(query).fetchall()
    hint = "with `duplicates: last` the last row of a key counts"
    if not found:
        return f"a key is there twice, by the table's way to compare {', '.join(names)}; {hint}"
    row, first, *values = found[0]
    key = ", ".join(f'{name}: "{shortened(value)}"' for name, value in zip(names, values, strict=True))
    place = insertion.place_of
    return f"{place(row)}: the key ({key}) is there already, in {place(first)}; {hint}"
