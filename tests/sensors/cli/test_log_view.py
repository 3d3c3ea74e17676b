"""The services' logs on the terminal."""

import io

import pytest
from rich.console import Console

from sensors.cli.logs import log_names, show_logs, view_logs
from sensors.config.settings import Settings
from sensors.stack.errors import StackError
from tests.sensors.config.test_profile import SHARED


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sensor.log").write_text("one\ntwo \x1b[2J[red]\n")
    (tmp_path / "logs" / "worker.log").write_text("three\n")
    return Settings(state_dir=tmp_path)


def viewed(settings, names, **options):
    out = io.StringIO()
    view_logs(settings, names, Console(file=out, width=80, highlight=False), **{"lines": 5, "follow": False, **options})
    return out.getvalue().splitlines()


def test_all_logs_are_those_of_the_services_and_the_alerts(settings):
    assert log_names(settings, None) == ["server", "worker", "sensor", "warm", "alerts"]


def test_a_service_of_several_processes_has_several_and_each_can_be_named():
    settings = Settings(**{**SHARED, "workers": 2})
    assert log_names(settings, "worker") == ["worker-1", "worker-2"]
    assert log_names(settings, "worker-2") == ["worker-2"]


def test_a_name_that_is_none_is_reported_with_what_there_is(settings):
    with pytest.raises(StackError, match="there is no service senor; there is server, worker, sensor, warm, alerts"):
        log_names(settings, "senor")


def test_of_several_logs_each_line_says_whose_it_is_and_is_harmless(settings):
    assert viewed(settings, ["sensor", "worker", "warm"]) == [
        "sensor | one",
        r"sensor | two \x1b[2J[red]",
        "worker | three",
    ]


def test_of_one_log_the_lines_stand_alone_and_no_more_than_asked_for(settings):
    assert viewed(settings, ["sensor"], lines=1) == [r"two \x1b[2J[red]"]


def test_following_goes_on_with_what_comes_until_ctrl_c(settings):
    news = iter(["four\n", "five\n"])

    def pause(_: float) -> None:
        said = next(news, None)
        if said is None:
            raise KeyboardInterrupt
        with (settings.logs_dir / "worker.log").open("a") as log:
            log.write(said)

    assert viewed(settings, ["worker"], follow=True, pause=pause) == ["three", "four", "five"]


def test_before_the_first_start_there_is_no_log(tmp_path):
    with pytest.raises(StackError, match=r"there is no log of sensor in .*`just up` starts the services"):
        show_logs(Settings(state_dir=tmp_path), "sensor", lines=20, follow=False)
