"""The table that rows go into: what it and its own columns are called."""

from dataclasses import dataclass

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
