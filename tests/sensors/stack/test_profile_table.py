"""The profile as a person sees it."""

from sensors.config.settings import Settings
from sensors.stack.terminal import profile_rows, show_profile
from tests.sensors.config.test_profile import SHARED


def test_the_embedded_profile_shows_what_runs_and_where_the_rows_are(tmp_path):
    rows = profile_rows(Settings(state_dir=tmp_path))
    assert rows["setting"] == {"PROFILE": "embedded", "WAREHOUSE_URL": str(tmp_path / "warehouse.duckdb")}
    assert list(rows["runs here as"]) == ["server", "worker", "sensor", "warm"]


def test_the_scale_profile_shows_every_setting_and_no_secret():
    settings = Settings(**SHARED, warehouse_url="postgresql://me:secret@db/warehouse", node_name="etl-1", api_port=4700)
    rows = profile_rows(settings)
    assert rows["setting"]["DATABASE_URL"] == "postgresql://me:***@db/prefect"
    assert rows["setting"]["WAREHOUSE_URL"] == "postgresql://me:***@db/warehouse"
    assert rows["setting"]["API_SERVER_PORT"] == "4800 4801"
    assert rows["what Prefect gets"]["PREFECT_SERVER_DOCKET_URL"] == "redis://:***@cache"
    assert "secret" not in str(rows)


def test_every_value_is_readable_to_its_end_on_a_narrow_terminal(monkeypatch, tmp_path):
    from io import StringIO

    from rich.console import Console

    for name, value in SHARED.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "none"))
    written = StringIO()
    show_profile(Console(file=written, width=80))
    assert "…" not in written.getvalue()
    assert "PREFECT_SERVER_EVENTS_MESSAGING_BROKER" in written.getvalue()
