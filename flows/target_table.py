"""The table that rows go into: what it is called, which columns it has, and how it grows."""

from collections.abc import Mapping
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from flows.quoting import identifier

LOADS_TABLE = "_loads"
"""The table of load keys; it lies in the target's schema."""

RESERVED_COLUMNS = {
    "_arrival_id": "VARCHAR",
    "_file_name": "VARCHAR",
    "_loaded_at": "TIMESTAMP WITH TIME ZONE",
}
"""The columns that every row carries, and their types."""


@dataclass(frozen=True)
class TableColumn:
    """A column of the table, under its real name and with DuckDB's name of its type."""

    name: str
    type: str


@dataclass(frozen=True)
class TargetTable:
    """`catalog.schema.table`, all in lower case."""

    catalog: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.catalog}.{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        """The table as SQL."""
        return f"{identifier(self.catalog)}.{identifier(self.schema)}.{identifier(self.table)}"

    @property
    def loads_sql(self) -> str:
        """The table of load keys as SQL."""
        return f"{identifier(self.catalog)}.{identifier(self.schema)}.{identifier(LOADS_TABLE)}"

    def columns(self, connection: DuckDBPyConnection) -> dict[str, TableColumn]:
        """Return the table's columns by their lower-case names; empty when there is no such table."""
        found = connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns()"
            " WHERE database_name = ? AND lower(schema_name) = ? AND lower(table_name) = ?",
            [self.catalog, self.schema, self.table],
        ).fetchall()
        return {name.lower(): TableColumn(name, type_) for name, type_ in found}

    def grow(
        self, connection: DuckDBPyConnection, existing: Mapping[str, TableColumn], wanted: Mapping[str, str]
    ) -> None:
        """Add the wanted columns (name to type) to the existing ones; create the table when there are none."""
        wanted = {**wanted, **RESERVED_COLUMNS}
        if not existing:
            columns = ", ".join(f"{identifier(name)} {type_}" for name, type_ in wanted.items())
            connection.execute(f"CREATE TABLE {self.sql} ({columns})")
            return
        for name, type_ in wanted.items():
            if name.lower() not in existing:
                connection.execute(f"ALTER TABLE {self.sql} ADD COLUMN {identifier(name)} {type_}")
