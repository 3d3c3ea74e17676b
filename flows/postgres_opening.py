"""Opening a PostgreSQL warehouse: who cannot get in because the server is not there waits for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import psycopg
from psycopg.conninfo import conninfo_to_dict
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random

from flows.failures import PermanentError, TemporaryError
from flows.memory import bound
from flows.postgres_errors import said_by
from flows.postgres_warehouse import PostgresWarehouse
from flows.spool import spool_folder
from flows.warehouse_address import PostgresDatabase

_DEFAULTS = {
    "application_name": "prefect-blueprint",
    "connect_timeout": 10,
    # In seconds, and the last in milliseconds: a server that is gone without a word is noticed within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_FOR_A_PERSON = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|permission denied|not permitted"
    "|not currently accepting connections|server does not support SSL|certificate"
)
"""What the server answers, before it gives codes to its errors, when waiting cannot help."""


@contextmanager
def open_postgres(
    database: PostgresDatabase, wait_seconds: float, on_wait: Callable[[str], None], memory_limit: str, spool_dir: Path
) -> Generator[PostgresWarehouse, None, None]:
    """Open a warehouse and close it again: wait while the server does not answer or is full.

    `on_wait` is told once that it waits. Raises TemporaryError when it still does not answer after `wait_seconds`,
    PermanentError when it does not let us in.
    """
    connection = _connect(database, wait_seconds, on_wait)
    try:
        with spool_folder(spool_dir, f"warehouse-{uuid4().hex}") as spool, duckdb.connect() as reader:
            reader.execute("SET TimeZone = 'UTC'")
            bound(reader, memory_limit, spool / "reader.tmp")
            yield PostgresWarehouse(connection, reader, spool, str(database), wait_seconds)
    finally:
        connection.close()


def _connect(
    database: PostgresDatabase, wait_seconds: float, on_wait: Callable[[str], None]
) -> psycopg.Connection[tuple[Any, ...]]:
    def notice(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            why = _why(state.outcome.exception())
            on_wait(f"the warehouse {database} does not answer: {why}; waiting for up to {wait_seconds:g} s")

    waiting = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(wait_seconds),
        wait=wait_random(0.1, 0.5),
        before_sleep=notice,
        reraise=True,
    )
    given = conninfo_to_dict(database.url)
    options = {name: value for name, value in _DEFAULTS.items() if name not in given}
    try:
        return waiting(_connected, database.url, options)
    except psycopg.Error as error:
        if _may_pass(error):
            raise TemporaryError(
                f"the warehouse {database} does not answer after {wait_seconds:g} s: {_why(error)}; start it, or set"
                " WAREHOUSE_WAIT_SECONDS to wait longer"
            ) from None
        raise PermanentError(
            f"the warehouse {database} does not let us in: {_why(error)}; check WAREHOUSE_URL, its user and database"
        ) from None


def _connected(url: str, options: dict[str, Any]) -> psycopg.Connection[tuple[Any, ...]]:
    # Nothing is prepared on the server: behind a pooler the next statement may come to another one.
    return psycopg.connect(url, autocommit=True, prepare_threshold=None, client_encoding="UTF8", **options)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError) and not _FOR_A_PERSON.search(str(error))


def _why(error: BaseException | None) -> str:
    said = said_by(error) if isinstance(error, psycopg.Error) else str(error)
    return said if said.startswith("Multiple") else said.rpartition(" failed: ")[2]
