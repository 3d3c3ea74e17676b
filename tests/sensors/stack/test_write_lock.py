"""The write lock of Prefect's SQLite: taken when a transaction begins."""

import asyncio
import threading
from pathlib import Path

import pytest
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from sensors.stack.environment import database_url

READ_THEN_WRITE = "SELECT n FROM counted", "UPDATE counted SET n = n + 1"


async def count_while_another_counts(url: str) -> int:
    """Read and then write in a transaction of Prefect's, another's write in between; return the count."""
    database = AioSqliteConfiguration(url)
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE counted (n INTEGER)"))
        await connection.execute(text("INSERT INTO counted VALUES (0)"))
    async with await database.session(engine) as session, database.begin_transaction(session):
        await session.execute(text(READ_THEN_WRITE[0]))
        other = asyncio.create_task(count(database, engine))
        # The other one either has written by now, or waits for us to end.
        await asyncio.wait([other], timeout=0.5)
        await session.execute(text(READ_THEN_WRITE[1]))
    await other
    async with await database.session(engine) as session:
        return (await session.execute(text(READ_THEN_WRITE[0]))).scalar_one()


async def count(database: AioSqliteConfiguration, engine: AsyncEngine) -> None:
    async with await database.session(engine) as session, database.begin_transaction(session):
        await session.execute(text(READ_THEN_WRITE[1]))


def run_apart(url: str) -> int:
    """Count in a thread of its own: Prefect keeps an engine for as long as its event loop lives."""
    answer: list[int | BaseException] = []

    def work() -> None:
        try:
            answer.append(asyncio.run(count_while_another_counts(url)))
        except BaseException as error:  # noqa: BLE001 # it is the caller's
            answer.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return answer[0]


def test_a_transaction_that_reads_and_then_writes_is_not_refused_because_another_has_written(tmp_path: Path):
    assert run_apart(database_url(tmp_path)) == 2


def test_without_the_plugin_prefect_refuses_it(tmp_path: Path):
    with pytest.raises(OperationalError, match="database is locked"):
        run_apart(f"sqlite+aiosqlite:///{tmp_path}/prefect.db")


@pytest.mark.parametrize("folder", ["plain", "with space", "per%cent", "hash#", "umläut"])
def test_the_url_names_the_database_in_any_home(tmp_path: Path, folder: str):
    url = make_url(database_url(tmp_path / folder))
    assert url.database == str(tmp_path / folder / "prefect.db")
    assert url.query == {"plugin": "write-lock-first"}
