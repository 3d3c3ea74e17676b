"""How far a long query is, as DuckDB says while it runs."""

import threading
from pathlib import Path

import duckdb
import pytest

from flows.report import artifacts
from flows.report.artifacts import watched


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        yield opened


def test_a_large_load_is_asked_again_and_again_how_far_it_is(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "POLL_SECONDS", 0.01)
    file = tmp_path / "large.csv"
    connection.execute(f"COPY (SELECT range AS a, 'x' || range AS b FROM range(2_000_000)) TO '{file}'")
    shares: list[float] = []
    with watched(lambda: connection, artifacts.LARGE, lambda share, _: shares.append(share)):
        connection.execute(f"CREATE TABLE loaded AS FROM read_csv('{file}')")
    assert any(0 < share < 1 for share in shares)
    assert all(0 <= share <= 1 for share in shares)
    assert connection.execute("SELECT count(*) FROM loaded").fetchone() == (2_000_000,)


def test_a_small_load_pays_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    with watched(lambda: connection, artifacts.LARGE - 1, lambda share, now: None):
        assert "progress" not in {thread.name for thread in threading.enumerate()}
    with watched(lambda: connection, artifacts.LARGE, lambda share, now: None):
        assert "progress" in {thread.name for thread in threading.enumerate()}


def test_what_goes_wrong_in_the_load_is_reported_as_it_is(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.CatalogException), watched(lambda: connection, artifacts.LARGE, lambda share, now: None):
        connection.execute("FROM nowhere")
