"""WAREHOUSE_URL names the warehouse, and a target table of another catalog is refused in clear words."""

from pathlib import Path

import pytest

from flows.errors import PermanentError
from flows.settings import PROJECT_ROOT, read_settings
from flows.sql_names import TargetTable
from flows.warehouse.address import DuckDbFile, PostgresDatabase, table_in, warehouse_address

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("data/sales.duckdb", "/project/data/sales.duckdb"),
        ("/srv/sales.duckdb", "/srv/sales.duckdb"),
        ("duckdb:///srv/my%20sales.duckdb", "/srv/my sales.duckdb"),
        ("DuckDB:///srv/sales.db", "/srv/sales.db"),
        ("../sales", "/sales"),
    ],
)
def test_a_path_or_a_duckdb_url_is_a_file(given: str, path: str):
    assert warehouse_address(given, Path("/project")) == DuckDbFile(Path(path))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_postgres_url_is_a_database_that_is_shown_without_credentials(scheme: str):
    url = f"{scheme}://me:{SECRET}@db.example.com:5433/sales?sslmode=require&sslpassword={SECRET}"
    address = warehouse_address(url, Path("/project"))
    assert address == PostgresDatabase(url, "sales")
    assert str(address) == f"{scheme}://db.example.com:5433/sales"
    assert SECRET not in repr(address)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            f"mysql://me:{SECRET}@host/db",
            "or postgresql://.*got a URL that begins with mysql:",
        ),
        (f"postgresql+psycopg://me:{SECRET}@host/db", "begins with postgresql.psycopg:"),
        (f"postgresql://me:{SECRET}@host", "expected the database's name"),
        (f"postgresql://me:{SECRET}@host:{SECRET}/x", "cannot be read|expected"),
        (f"postgresql://me:a{SECRET}/%zz@host/x", "cannot be read"),
        ("duckdb://srv/sales.duckdb", "three slashes"),
        ("duckdb:///srv/sales.duckdb?access_mode=read_only", "nothing after the path"),
        (":memory:", "would end with the run"),
        ("/", "a folder"),
        ("/srv/main.duckdb", "'main' cannot be"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected_and_no_password(
    given: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WAREHOUSE_URL", given)
    with pytest.raises(PermanentError, match=rf"check the environment and \.env: WAREHOUSE_URL: .*({said})") as raised:
        read_settings()
    assert SECRET not in str(raised.value)


def test_the_settings_show_no_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WAREHOUSE_URL", f"postgresql://me:{SECRET}@host/db")
    assert SECRET not in repr(read_settings()) + str(read_settings().warehouse())


def test_without_a_url_the_warehouse_is_in_the_state_folder(tmp_path: Path):
    assert read_settings().warehouse() == DuckDbFile(tmp_path / "warehouse.duckdb")
    assert read_settings().warehouse("sales") == DuckDbFile(tmp_path / "warehouse.duckdb")


def test_a_file_of_another_catalogs_name_that_is_there_from_before_goes_on_being_used(tmp_path: Path):
    (tmp_path / "sales.duckdb").touch()
    address = read_settings().warehouse("sales")
    assert address == DuckDbFile(tmp_path / "sales.duckdb")
    assert str(table_in(address, TargetTable("sales", "public", "t"))) == "sales.public.t"


def test_a_relative_path_is_taken_from_the_projects_root(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WAREHOUSE_URL", "data/x.duckdb")
    assert read_settings().warehouse("whatever") == DuckDbFile(PROJECT_ROOT / "data" / "x.duckdb")


@pytest.mark.parametrize(
    ("url", "catalog", "key"),
    [
        ("/srv/Sales.2026.duckdb", "sales", "sales.public.t"),
        ("/srv/Sales.2026.duckdb", "warehouse", "sales.public.t"),
        ("postgresql://host/Sales", "warehouse", "warehouse.public.t"),
        ("postgresql://host/Sales", "sales", "warehouse.public.t"),
    ],
)
def test_a_table_has_one_name_in_load_keys_however_its_catalog_is_called(url: str, catalog: str, key: str):
    assert str(table_in(warehouse_address(url, Path("/")), TargetTable(catalog, "public", "t"))) == key


@pytest.mark.parametrize("url", ["/srv/sales.duckdb", f"postgresql://me:{SECRET}@host/sales"])
def test_another_catalog_is_refused_with_what_was_expected_what_was_got_and_what_to_do(url: str):
    with pytest.raises(PermanentError) as raised:
        table_in(warehouse_address(url, Path("/")), TargetTable("other", "public", "t"))
    said = str(raised.value)
    assert "sales.public.t" in said
    assert "warehouse.public.t" in said
    assert "got other.public.t; change that, or WAREHOUSE_URL" in said
    assert SECRET not in said
