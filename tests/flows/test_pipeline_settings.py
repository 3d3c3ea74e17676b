"""Where the flow keeps things comes from the environment and the `.env` file."""

from pathlib import Path

import pytest

from flows.errors import PermanentError
from flows.settings import PROJECT_ROOT, read_settings


@pytest.fixture(autouse=True)
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STATE_DIR", "WAREHOUSE_WAIT_SECONDS", "WAREHOUSE_MEMORY_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "env"))
    return tmp_path / "env"


def test_state_is_kept_in_data_below_the_projects_root():
    assert read_settings().state_dir == PROJECT_ROOT / "data"
    assert (PROJECT_ROOT / "flows" / "data_pipeline.py").exists()


def test_the_environment_wins_over_the_file(env_file: Path, monkeypatch: pytest.MonkeyPatch):
    env_file.write_text("STATE_DIR=elsewhere\nWAREHOUSE_WAIT_SECONDS=5\nAPI_PORT=4300\n")
    assert read_settings().state_dir == PROJECT_ROOT / "elsewhere"
    monkeypatch.setenv("STATE_DIR", "/absolute")
    assert (read_settings().state_dir, read_settings().warehouse_wait_seconds) == (Path("/absolute"), 5)


def test_a_bad_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WAREHOUSE_WAIT_SECONDS", "soon")
    with pytest.raises(PermanentError, match=r"check the environment and \.env: WAREHOUSE_WAIT_SECONDS: .*number"):
        read_settings()


@pytest.mark.parametrize("size", ["512MB", "4 GB", "1.5gib"])
def test_the_memory_limit_is_a_size_that_duckdb_knows(monkeypatch: pytest.MonkeyPatch, size: str):
    monkeypatch.setenv("WAREHOUSE_MEMORY_LIMIT", size)
    assert read_settings().warehouse_memory_limit == size


@pytest.mark.parametrize("size", ["much", "4", "0GB", "-1GB", "80%", "1GB'; DROP TABLE x"])
def test_another_memory_limit_is_refused_with_an_example(monkeypatch: pytest.MonkeyPatch, size: str):
    monkeypatch.setenv("WAREHOUSE_MEMORY_LIMIT", size)
    with pytest.raises(PermanentError, match="WAREHOUSE_MEMORY_LIMIT: expected a size such as 512MB or 4GB"):
        read_settings()
