"""What has to be on the server, and when it need not be put there again."""

import os
import sys

import pytest

from sensors.config.settings import PROJECT_ROOT, read_settings
from sensors.stack.errors import StackError
from sensors.stack.prefect_setup import Commands, Deploying, deployment_names, fingerprint
from sensors.stack.stop import StopRequest, StopRequestedError


@pytest.fixture
def project(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "data_pipeline.py").write_text("one")
    (tmp_path / "prefect.yaml").write_text("name: one")
    return tmp_path


@pytest.mark.parametrize("changed", ["flows/data_pipeline.py", "prefect.yaml", "flows/new.py"])
def test_the_fingerprint_changes_with_everything_a_deployment_is_made_from(project, changed):
    before = fingerprint(project)
    assert fingerprint(project) == before
    (project / changed).write_text("two")
    assert fingerprint(project) != before


def test_a_machine_that_moves_to_another_database_has_nothing_deployed_there(project, tmp_path, monkeypatch):
    def deploying(**more: str) -> Deploying:
        for name, value in {"STATE_DIR": str(tmp_path), "REDIS_URL": "redis://cache:6379/0", **more}.items():
            monkeypatch.setenv(name, value)
        return Deploying(read_settings(), project)

    monkeypatch.setenv("ENV_FILE", str(tmp_path / "none.env"))
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "deployed.sha256").write_text(fingerprint(project, deploying()._around))
    assert deploying().done_before
    assert not deploying(SENSOR_PORT="4999").done_before
    assert not deploying(
        SENSOR_PORT="4201", PROFILE="scale", DATABASE_URL="postgresql://me:secret@db/prefect"
    ).done_before


def test_what_has_to_be_on_the_server_is_every_deployment_of_the_file(project):
    assert deployment_names(project) == set()
    (project / "prefect.yaml").write_text("deployments: [{name: one}, {name: two}]")
    assert deployment_names(project) == {"one", "two"}
    assert deployment_names(PROJECT_ROOT) == {"production-etl"}


@pytest.fixture
def commands(tmp_path):
    return Commands({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "setup.log", StopRequest())


def test_a_commands_output_goes_to_the_log(commands):
    commands.run("showing the platform", ("platform",))
    assert sys.platform in commands.log.read_text().lower()


def test_a_command_that_fails_is_reported_with_the_end_of_its_output(commands, tmp_path):
    (tmp_path / "broken.py").write_text("raise SystemExit('no such deployment')")
    commands.run("showing the platform", ("platform",))
    with pytest.raises(StackError, match=r"deploying failed \(exit status 1\)") as failed:
        commands.run("deploying", ("broken",))
    assert [line.strip() for line in failed.value.lines[1:]] == ["no such deployment"]


def test_a_command_ends_when_somebody_asks_to_stop(commands, tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    commands.stop.ask()
    with pytest.raises(StopRequestedError):
        commands.run("deploying", ("slow",))
