"""The status on the screen: refreshed in place until Ctrl-C, and only where there is a screen."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from sensors.cli import status
from sensors.cli.status import REFRESH_SECONDS, show_status, watch_status
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.reports.arrivals import InboxCounts
from sensors.runs.issues import IssueKind, RunIssue
from sensors.stack.errors import StackError
from sensors.stack.health import Health
from sensors.stack.services import Service
from sensors.stack.status import Status

SICK = {Service.SENSOR: Health(healthy=False, detail="no usable answer")}
WELL = {Service.SENSOR: Health(healthy=True)}


def test_each_look_takes_the_place_of_the_one_before_until_ctrl_c(tmp_path):
    looks = iter([(SICK, 1), (WELL, 22), (WELL, 333)])
    pauses: list[float] = []

    def look() -> Status:
        services, seen = next(looks)
        return Status(Settings(state_dir=tmp_path), services, {"metrics": InboxCounts(seen=seen, loaded=seen)})

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, height=40, legacy_windows=False)
    assert watch_status(look, console, pause) == 0
    assert pauses == [REFRESH_SECONDS] * 3
    assert out.getvalue().index("no usable answer") < out.getvalue().index("333")
    assert "\x1b[1A" in out.getvalue()  # the cursor went up again


def test_the_exit_status_is_that_of_the_last_look(tmp_path):
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    console = Console(file=io.StringIO(), force_terminal=True)
    assert watch_status(lambda: Status(Settings(state_dir=tmp_path), SICK, {}), console, interrupted) == 1


def test_a_run_that_failed_makes_the_exit_status_1_unless_only_the_services_count(tmp_path, monkeypatch, capsys):
    issue = RunIssue(IssueKind.FAILED, "r", "F/d", "run r failed", "boom", "mend it", datetime.now(UTC))
    found = Status(Settings(state_dir=tmp_path), WELL, {}, run_issues=(issue,))
    monkeypatch.setattr(status, "read_status", lambda _: found)
    monkeypatch.setattr(status, "checked_settings", lambda: found.settings)
    assert show_status(as_json=False, watch=False) == 1
    assert show_status(as_json=False, watch=False, services_only=True) == 0
    assert capsys.readouterr().out.count("run r failed: boom; mend it") == 2


def test_the_health_of_a_container_goes_by_its_services():
    assert '"sensors", "status", "--services"]' in (PROJECT_ROOT / "deploy/container/Containerfile").read_text()


@pytest.fixture
def somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("somewhere")
def test_a_pipe_is_not_drawn_on():
    with pytest.raises(StackError, match=r"--watch needs a terminal to draw on.*use --json"):
        show_status(as_json=False, watch=True)


@pytest.mark.usefixtures("somewhere")
def test_a_script_does_not_watch():
    with pytest.raises(StackError, match="--watch draws on a terminal and --json is for scripts"):
        show_status(as_json=True, watch=True)
