"""The small pipeline of tests/pipeline.py with a real PostgreSQL as its warehouse.

What the tests ask in DuckDB's SQL is answered by a copy of the tables in DuckDB, so that both warehouses are held to
the same sentences.
"""

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from psycopg.sql import SQL, Identifier

from flows.warehouse.address import PostgresDatabase
from flows.warehouse.duckdb import DEFAULT_LIMIT
from flows.warehouse.postgres import PostgresWarehouse, open_postgres
from flows.warehouse.postgres_types import column_type, duckdb_type
from tests.pipeline import Pipeline

TYPES = r"\b(DOUBLE|TINYINT|JSON|VARCHAR|TIMESTAMP|DATE|BIGINT|SMALLINT)\b"


@dataclass
class PostgresPipeline(Pipeline):
    """Files go into `<folder>/<arrival>/`, rows into a database."""

    url: str = ""
    folds_names = True
    many_rows = 400_000
    warehouse_class = PostgresWarehouse

    @contextmanager
    def opened(self) -> Generator[PostgresWarehouse, None, None]:
        database = PostgresDatabase(self.url, self.url.rpartition("/")[2])
        with open_postgres(database, 10, lambda _: None, DEFAULT_LIMIT, self.folder / "spool") as warehouse:
            yield warehouse

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in PostgreSQL itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # pyright: ignore[reportArgumentType]
            return cursor.fetchall() if cursor.description else []

    def create(self, columns: str) -> None:
        self.sql("CREATE SCHEMA IF NOT EXISTS public")
        typed = re.sub(TYPES, lambda found: column_type(found[0]), columns)
        self.sql(f"CREATE TABLE public.metrics ({typed})")

    def drop(self) -> None:
        self.sql("DROP TABLE public.metrics")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query in a copy of the database."""
        with duckdb.connect() as copy:
            copy.execute("SET TimeZone = 'UTC'; ATTACH ':memory:' AS warehouse; USE warehouse")
            copy.execute("CREATE SCHEMA IF NOT EXISTS public")
            copy.create_function("compact", _compact, ["VARCHAR"], "VARCHAR")
            with psycopg.connect(self.url) as connection:
                for table in self._tables(connection):
                    self._copy_table(connection, copy, table)
            return copy.execute(statement).fetchall()

    def _tables(self, connection: psycopg.Connection[Any]) -> list[str]:
        return [
            name
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        ]

    def _copy_table(self, connection: psycopg.Connection[Any], copy: duckdb.DuckDBPyConnection, table: str) -> None:
        described = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [f"public.{table}"],
        ).fetchall()
        types = [(name, re.sub(r"(VARCHAR|CHAR)\(.*", "VARCHAR", duckdb_type(type_))) for name, type_ in described]
        path = self.folder / f"copy of {table}"
        query = SQL("COPY (SELECT * FROM {} ORDER BY ctid) TO STDOUT (FORMAT csv, FORCE_QUOTE *)")
        with (
            path.open("wb") as file,
            connection.cursor() as cursor,
            cursor.copy(query.format(Identifier("public", table))) as rows,
        ):
            file.writelines(rows)
        columns = ", ".join(f'"{_doubled(name)}" {type_}' for name, type_ in types)
        copy.execute(f"CREATE TABLE public.{table} ({columns})")
        if not path.stat().st_size:
            return
        texts = ", ".join(f"'c{at}': 'VARCHAR'" for at in range(len(types)))
        values = ", ".join(_value(f"c{at}", type_) for at, (_, type_) in enumerate(types))
        copy.execute(
            f"INSERT INTO public.{table} SELECT {values} FROM read_csv('{_literal(path)}', auto_detect = false,"
            f" header = false, quote = '\"', escape = '\"', allow_quoted_nulls = false, max_line_size = 100000000,"
            " new_line = '\\n',"
            f" columns = {{{texts}}})"
        )


def _value(name: str, type_: str) -> str:
    if type_ == "BLOB":
        return f"unhex({name}[3:])"
    if type_ == "JSON":
        return f"compact({name})"
    if type_ == "DATE" or type_.startswith("TIMESTAMP"):
        # PostgreSQL has the era at the very end, DuckDB after the day.
        text = f"regexp_replace({name}, '^(\\S+)(.*) BC$', '\\1 (BC)\\2')"
        return f"CAST({text} AS {type_})"
    return f"CAST({name} AS {type_})"


def _compact(text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


def _doubled(name: str) -> str:
    return name.replace('"', '""')


def _literal(path: Path) -> str:
    return re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''")
