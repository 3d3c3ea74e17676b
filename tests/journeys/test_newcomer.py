"""Somebody clones the project and types what README.md says first."""

import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.documentation import ROOT, shell_commands
from tests.free_ports import free_ports
from tests.journeys.reader import copy_of_the_project, recorded_terminal
from tests.journeys.stack import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def test_the_first_command_of_the_readme_is_all_that_a_newcomer_needs(tmp_path: Path) -> None:
    clone = copy_of_the_project(tmp_path)
    (first,) = [one.line for one in shell_commands(ROOT / "README.md") if one.line.endswith("just up")]
    api_port, sensor_port = free_ports(2)
    ours = ("PREFECT_", "VIRTUAL_ENV", "STATE_DIR", "ENV_FILE", "NOTIFY_", "AUTH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"API_PORT": str(api_port), "SENSOR_PORT": str(sensor_port)}
    terminal = tmp_path / "terminal.log"
    with (
        recorded_terminal(terminal) as its,
        subprocess.Popen(
            ["bash", "-c", first],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            start_new_session=True,
        ) as process,
    ):
        try:

            def is_up() -> bool:
                said = terminal.read_text()
                assert process.poll() is None, said
                return "everything is healthy" in said

            wait_until(is_up, "everything is healthy", seconds=400, pause=0.5)
            said = terminal.read_text()
            (credentials,) = re.findall(r"PREFECT_API_AUTH_STRING=\"?([^\"\n]+)", (clone / ".env").read_text())
            assert credentials in said, "the credentials are shown the first time"
            user, _, password = credentials.partition(":")
            page = httpx.get(f"http://127.0.0.1:{sensor_port}/", auth=(user, password), trust_env=False)
            assert page.status_code == httpx.codes.OK

            activated = "source .venv/bin/activate && just status && just setup && just status"
            done = subprocess.run(
                ["bash", "-c", activated], cwd=clone, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(timeout=60)
            finally:
                process.kill()
    assert process.returncode == 130, terminal.read_text()
    assert (clone / "data" / "inbox" / "metrics").is_dir()
