"""The command line of the automations, and Prefect's own on the same files."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import Result
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from automations.__main__ import app
from automations.as_code.plan import FOLDER
from tests.documentation import ROOT
from tests.documented_commands import commands

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PLAIN = """\
name: plain
description: |-
  two
  lines
trigger: {expect: [a.b], posture: Reactive, within: 5}
actions:
  - {type: change-flow-run-state, state: FAILED, message: "{{ event.id }}"}
"""


@pytest.fixture
def server(api_url: str) -> Generator[str, None, None]:
    """Give the address of a server without automations."""
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        yield api_url


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def prefect(api_url: str, *arguments: str) -> str:
    environment = {**os.environ, "PREFECT_API_URL": api_url}
    command = [sys.executable, "-m", "prefect", "automation", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_mistake_ends_with_status_1_and_one_line_per_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_URLS", "hunter22")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        for command in ("apply", "plan"):
            result = run(command)
            assert result.exit_code == 1
            wheres = [line.split(": ")[0] for line in result.stderr.splitlines()]
            assert wheres == ["NOTIFY_URLS", "http://127.0.0.1:1/api"]
            assert result.stdout == ""


def test_without_a_command_it_says_what_there_is() -> None:
    assert all(command in run().output for command in ("plan", "apply", "export"))


def test_the_status_of_a_plan_says_whether_there_is_anything_to_do(server: str, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(PLAIN)
    assert run("plan", tmp_path).exit_code == 2
    assert run("apply", tmp_path, "--owner", "me").exit_code == 0
    assert run("plan", tmp_path, "--owner", "me").exit_code == 0
    (tmp_path / "plain.yaml").write_text(PLAIN.replace("expect:", "expekt:"))
    result = run("plan", tmp_path, "--owner", "me")
    assert result.exit_code == 1
    assert result.stderr == ("plain.yaml:5: trigger.expekt: Prefect knows no such field here; did you mean 'expect'?\n")


def test_a_plan_as_json_is_one_document(server: str, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(PLAIN)
    result = run("plan", tmp_path, "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert document["changed"] is True
    assert document["counts"]["create"] == 1
    [change] = document["changes"]  # of another folder the notification blocks are none of our business
    assert (change["kind"], change["name"], change["action"], change["id"]) == ("automation", "plain", "create", None)
    assert {"field": "trigger.within", "new": 5} in change["differences"]


def test_where_no_deployment_is_at_all_the_command_that_makes_them_is_reported(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "none"))
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
    assert "`just deploy` puts those of prefect.yaml there" in run("plan", FOLDER).stderr


def test_prefects_own_command_takes_our_files_and_what_it_prints_is_one(server: str, tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text(PLAIN)
    prefect(server, "create", "--from-file", str(file))
    assert "adopted" in run("plan", tmp_path).stdout
    file.write_text(prefect(server, "inspect", "plain", "--output", "yaml"))
    assert run("apply", tmp_path).exit_code == 0
    file.write_text(prefect(server, "inspect", "plain", "--output", "yaml"))
    result = run("plan", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")


def test_an_export_shows_the_files_and_what_could_not_be_one(server: str, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(PLAIN)
    run("apply", tmp_path)
    result = run("export", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out' / 'plain.yaml'}\n")
    result = run("export", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.endswith("plain.yaml: is there already; --force overwrites it\n")
    assert run("export", tmp_path / "out", "--force").exit_code == 0


def test_an_export_is_planned_and_applied_as_the_page_says(server: str, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(PLAIN)
    prefect(server, "create", "--from-file", str(tmp_path / "plain.yaml"))
    said: list[str] = []
    lines = [one.line for one in commands().values() if one.words[:3] == ["python", "-m", "automations"]]
    for line, status in zip(lines, (0, 2, 0), strict=True):
        done = subprocess.run(
            ["bash", "-c", line.replace("python", sys.executable, 1).replace("DIR", str(tmp_path / "exported"))],
            env={**os.environ, "PREFECT_API_URL": server},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == status, done.stdout + done.stderr
        said.append(done.stdout)
    assert "plain.yaml" in said[0]
    assert "adopted" in said[1]
    assert "1 to update" in said[1]
