"""What docs/scale.md says under "With containers": its commands as they stand, and what follows from them."""

import json
import time
from pathlib import Path

import pytest

from tests.containers.compose import API, ORDERS, PAGE, Installation
from tests.containers.engine import Engine
from tests.containers.stand_ins import STAND_INS, provide
from tests.documentation import ROOT
from tests.documented_commands import COMPOSE, shown_by
from tests.journeys.stack import wait_until

DOWN_SECONDS = 30.0
LOST_RUN_SECONDS = 400.0
"""A run without a sign of life is told as crashed after 100 s; then its arrival is announced again."""


@pytest.fixture(scope="module")
def installation(engine: Engine, project: Path) -> Installation:
    provide(engine, *STAND_INS)
    return Installation(engine, project)


def test_the_pages_commands_start_everything_and_load_a_file(installation: Installation) -> None:
    copy, up, drop, status = (command.line for command in shown_by(COMPOSE))
    installation.typed(copy)
    installation.set_passwords()
    installation.typed(up)
    installation.wait_until_healthy()
    (installation.folder / "orders.csv").write_text(ORDERS)
    installation.typed(drop)
    installation.wait_for_rows({"orders.csv": 2})
    # It succeeds if all is healthy, and only then.
    installation.typed(status)


def test_the_drop_page_and_the_api_answer_those_who_have_the_password(installation: Installation) -> None:
    asked = installation.engine.asked
    for address in (f"{PAGE}/", f"{API}/admin/version"):
        assert asked(address).splitlines()[-1] == "401"
        assert asked("--user", "admin:wrong", address).splitlines()[-1] == "401"
        assert asked(*installation.credentials, address).splitlines()[-1] == "200"


def test_a_file_that_is_uploaded_is_loaded(installation: Installation) -> None:
    file = installation.folder / "uploaded.csv"
    file.write_text(ORDERS)
    answer = installation.engine.asked(*installation.credentials, "--upload-file", str(file), f"{PAGE}/inbox/metrics/")
    assert answer.splitlines()[-1] == "201", answer
    installation.wait_for_rows({"uploaded.csv": 2})


def test_every_row_is_there_once_when_a_worker_and_the_main_container_are_killed(installation: Installation) -> None:
    names = [f"many-{number:02}.csv" for number in range(20)]
    killed: list[str] = []
    for service, part in (("worker", names[:10]), ("main", names[10:])):
        installation.drop("main", dict.fromkeys(part, ORDERS))
        killed.append(installation.kill_first_process(service))
    installation.wait_for_rows(dict.fromkeys(names, 2), LOST_RUN_SECONDS)
    wait_until(lambda: all(map(installation.starts_again, killed)), "what was killed is started again")
    installation.wait_until_healthy()


def test_a_second_sensor_has_an_inbox_of_its_own(installation: Installation) -> None:
    second = ("--profile", "second-sensor")
    assert " ".join(second) in (ROOT / "docs" / "scale.md").read_text()
    installation.compose(*second, "up", "--detach")
    installation.wait_until_healthy()
    installation.drop("sensor-2", {"second.csv": ORDERS})
    installation.wait_for_rows({"second.csv": 2})
    reported = installation.compose("exec", "-T", "sensor-2", "python", "-m", "sensors", "status", "--json")
    assert json.loads(reported)["inboxes"]["metrics"]["loaded"] == 1


def test_the_logs_of_the_containers_have_no_password(installation: Installation) -> None:
    logs = installation.compose("--profile", "*", "logs", "--no-color")
    assert "everything is healthy" in logs
    assert [name for name, password in installation.passwords.items() if password in logs] == []


def test_down_ends_everything_in_less_than_thirty_seconds_and_keeps_the_rows(installation: Installation) -> None:
    before = installation.rows()
    assert set(before.values()) == {2}, "a file's rows have come twice, or not at all"
    started = time.monotonic()
    installation.compose("--profile", "*", "down")
    assert time.monotonic() - started < DOWN_SECONDS
    assert installation.containers() == []
    installation.compose("up", "--detach", "postgres")
    wait_until(lambda: installation.rows() == before, "the rows are there still")
