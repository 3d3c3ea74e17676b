"""Parse WAREHOUSE_URL, and map a target table's catalog to the warehouse."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flows.errors import PermanentError
from flows.rules import DUCKDB_CATALOGS
from flows.sources.redact_url import redact_url
from flows.sql_names import TargetTable

CATALOG = "warehouse"
"""The catalog name that always means the warehouse; load keys in PostgreSQL use no other."""
"""Catalog names that DuckDB reserves."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_POSTGRES = frozenset({"postgresql", "postgres"})
_EXAMPLES = "the path of a DuckDB file, or postgresql://user:password@host:5432/database"


@dataclass(frozen=True)
class DuckDbFile:
    """The address of a DuckDB file."""

    path: Path

    @property
    def catalog(self) -> str:
        """DuckDB's name of the file's catalog: the file name up to the first dot, here in lower case."""
        return self.path.name.partition(".")[0].lower()

    @property
    def names(self) -> tuple[str, ...]:
        """The catalogs of target tables that mean this warehouse."""
        return tuple(dict.fromkeys([self.catalog, CATALOG]))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class PostgresDatabase:
    """The address of a database on a PostgreSQL server."""

    url: str = field(repr=False)
    """Contains the credentials: passed to libpq, never shown."""
    database: str

    @property
    def catalog(self) -> str:
        """The catalog in load keys: that of the default DuckDB file, so that its keys can be migrated."""
        return CATALOG

    @property
    def names(self) -> tuple[str, ...]:
        """The catalogs of target tables that mean this warehouse."""
        return tuple(dict.fromkeys([CATALOG, self.database.lower()]))

    def __str__(self) -> str:
        return redact_url(self.url)


WarehouseAddress = DuckDbFile | PostgresDatabase
"""The address of the warehouse; `str()` of it has no credentials."""


def warehouse_address(given: str, root: Path) -> WarehouseAddress:
    """Parse the address of a warehouse: a path, relative to `root`, or a URL.

    Raises ValueError with the expected form; the message quotes nothing that may contain a password.

    >>> str(warehouse_address("duckdb:///srv/sales.duckdb", Path("/")))
    '/srv/sales.duckdb'
    >>> str(warehouse_address("postgresql://me:secret@db.example.com/sales", Path("/")))
    'postgresql://db.example.com/sales'
    """
    scheme = _SCHEME.match(given)
    if scheme is None:
        return _file(given, root)
    kind = scheme[1].lower()
    if kind in _POSTGRES:
        return _database(given)
    if kind == "duckdb":
        if not given[len(kind) :].startswith(":///"):
            raise ValueError("expected duckdb:///absolute/path, with three slashes, or just the path")
        if "?" in given or "#" in given:
            raise ValueError("expected nothing after the path; write ? as %3F and # as %23")
        return _file(unquote(urlsplit(given).path), root)
    raise ValueError(f"expected {_EXAMPLES}; got a URL that begins with {kind}:")


def table_in(address: WarehouseAddress, wanted: TargetTable) -> TargetTable:
    """Return a target table under the warehouse's own catalog. Raises PermanentError for another catalog.

    Load keys contain the table's name, so each table must have only one.
    """
    if wanted.catalog not in address.names:
        expected = " or ".join(f"{name}.{wanted.schema}.{wanted.table}" for name in address.names)
        raise PermanentError(
            f"target_table: expected {expected}, as the warehouse is {address}, got {wanted};"
            " change that, or WAREHOUSE_URL"
        )
    return TargetTable(address.catalog, wanted.schema, wanted.table)


def _file(given: str, root: Path) -> DuckDbFile:
    path = (root / Path(given).expanduser()).resolve()
    file = DuckDbFile(path)
    if given.startswith(":"):
        raise ValueError("expected a file, a warehouse in memory would end with the run")
    if path.is_dir():
        raise ValueError("expected the path of a DuckDB file, got a folder")
    if not file.catalog or file.catalog in DUCKDB_CATALOGS:
        raise ValueError(f"expected a DuckDB file of another name: it is the catalog's, and {file.catalog!r} cannot be")
    return file


def _database(given: str) -> PostgresDatabase:
    # Imported here: a run with a DuckDB file needs no psycopg, which takes 0.3 s to import.
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(given)
    except psycopg.Error:
        raise ValueError(
            f"expected {_EXAMPLES}, got one that cannot be read; in a password write @ as %40, / as %2F, : as %3A"
        ) from None
    if not re.fullmatch(r"[\d,]*", str(parts.get("port", ""))):
        raise ValueError("expected the port to be a number; in a password write @ as %40, / as %2F, : as %3A")
    if not parts.get("dbname"):
        raise ValueError("expected the database's name at the end: postgresql://user:password@host:5432/database")
    return PostgresDatabase(given, str(parts["dbname"]))
