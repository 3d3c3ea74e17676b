"""Prefect's settings in a run's process: taken over from the warm server only where they would come out the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.forkserver.settings_fingerprint import look
from tests.warm import ROOT

SETTLED = """\
import json, os, sys
import prefect.context
from flows.forkserver.settings_fingerprint import refresh, settle
os.chdir("/")
ground = settle()
before = prefect.context.GLOBAL_SETTINGS_CONTEXT
os.chdir(sys.argv[1])
os.environ.update(json.loads(sys.argv[2]))
refresh(ground)
from prefect.settings import get_current_settings
taken_over = prefect.context.GLOBAL_SETTINGS_CONTEXT is before
print(json.dumps([taken_over, get_current_settings().logging.level, get_current_settings().api.request_timeout]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of_a_run(folder: Path, **variables: str) -> list[object]:
    """Return whether the run's settings are the server's, and two of them."""
    command = [sys.executable, "-c", SETTLED, str(folder), json.dumps(variables)]
    environment = {"PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "PATH": ""}
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def test_a_run_in_the_servers_own_environment_takes_them_over(folder: Path):
    assert settings_of_a_run(folder, PREFECT__FLOW_RUN_ID="1") == [True, "INFO", 60.0]


def test_a_variable_of_the_runs_own_counts(folder: Path):
    assert settings_of_a_run(folder, PREFECT_LOGGING_LEVEL="DEBUG") == [False, "DEBUG", 60.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".env", "PREFECT_API_REQUEST_TIMEOUT=7"),
        ("prefect.toml", "[api]\nrequest_timeout = 7"),
        ("pyproject.toml", "[tool.prefect.api]\nrequest_timeout = 7"),
        ("home/profiles.toml", 'active = "mine"\n[profiles.mine]\nPREFECT_API_REQUEST_TIMEOUT = "7"'),
    ],
)
def test_a_file_of_settings_in_the_runs_folder_or_at_home_counts(folder: Path, name: str, content: str):
    (folder / "home").mkdir()
    (folder / name).write_text(content)
    assert settings_of_a_run(folder)[2] == 7.0


def test_the_ground_is_the_same_wherever_no_settings_lie(folder: Path, monkeypatch: pytest.MonkeyPatch):
    here = look()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert look() == here


def test_a_file_that_was_edited_is_another_ground(folder: Path):
    (folder / "prefect.toml").write_text("[api]\nrequest_timeout = 7")
    before = look()
    (folder / "prefect.toml").write_text("[api]\nrequest_timeout = 77")
    assert look() != before
