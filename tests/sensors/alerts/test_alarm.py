"""The alarm in the sensor: whatever is wrong with the outbox, it keeps nothing else from working."""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from automations.alert_service import AlertSettings, OutboxError
from sensors.alerts.server_watch import AlertLoops
from sensors.config.settings import Auth, Settings
from sensors.ledger import Ledger
from sensors.runtime.loop import Loop
from tests.conftest import HandClock
from tests.prefect_server import PrefectServer


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "alerts.db"


@pytest.fixture
def alarm(tmp_path: Path, server: PrefectServer, hand_clock: HandClock) -> Generator[AlertLoops, None, None]:
    settings = Settings(_env_file=None, state_dir=tmp_path, api_port=server.port, auth=Auth.OFF)  # pyright: ignore[reportCallIssue]
    Ledger(settings.ledger_path).close()
    alarm = AlertLoops(settings, AlertSettings(_env_file=None, state_dir=tmp_path), hand_clock.clock)  # pyright: ignore[reportCallIssue]
    yield alarm
    alarm.close()


def break_it(outbox: Path) -> None:
    outbox.write_text("this is no database, however long it is " * 100)


def test_the_dispatcher_is_opened_and_watched(alarm: AlertLoops, outbox: Path, server: PrefectServer) -> None:
    assert alarm.deliver() > 0
    assert alarm.watch() > 0
    assert outbox.exists()
    assert [one["event"] for one in server.emitted] == ["sensor.heartbeat"]


def test_a_broken_outbox_is_reported_by_one_loop_and_the_other_waits(alarm: AlertLoops, outbox: Path) -> None:
    break_it(outbox)
    with pytest.raises(OutboxError):
        alarm.deliver()
    assert alarm.watch() > 0


def test_it_works_again_when_the_broken_one_was_moved_away(
    alarm: AlertLoops, outbox: Path, server: PrefectServer
) -> None:
    break_it(outbox)
    with pytest.raises(OutboxError):
        alarm.deliver()
    outbox.rename(outbox.with_name("broken.db"))
    alarm.deliver()
    alarm.watch()
    assert len(server.emitted) == 1


def test_one_that_is_moved_away_at_work_is_made_anew_and_watched(
    alarm: AlertLoops, outbox: Path, server: PrefectServer, hand_clock: HandClock
) -> None:
    alarm.deliver()
    alarm.watch()
    for file in outbox.parent.glob("alerts.db*"):
        file.rename(file.with_name(f"old-{file.name}"))
    hand_clock.turn(20)
    with pytest.raises(OutboxError, match="moved away"):
        alarm.deliver()
    alarm.deliver()
    alarm.watch()
    assert outbox.exists()
    assert len(server.emitted) == 2


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_its_loop_goes_on_and_says_what_is_wrong_until_it_works_again(
    alarm: AlertLoops, outbox: Path, hand_clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    break_it(outbox)
    loop = Loop("bell", alarm.deliver, hand_clock.clock)
    loop.start()
    until(lambda: loop.trouble is not None)
    assert "move it away" in (loop.trouble or "")
    outbox.unlink()
    loop.wake.set()
    until(lambda: loop.trouble is None)
    loop.stop()
    loop.join()
    assert caplog.text.count("move it away") == 1
    assert "Traceback" not in caplog.text


def test_closing_it_leaves_none_of_its_files_open(alarm: AlertLoops, outbox: Path) -> None:
    alarm.deliver()
    alarm.watch()
    alarm.close()
    assert [file.path for file in psutil.Process().open_files() if Path(file.path).is_relative_to(outbox.parent)] == []


def test_a_check_that_is_under_way_when_the_loops_are_closed_ends_as_usual(
    alarm: AlertLoops, server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, is_closed, answer = threading.Event(), threading.Event(), server.answer

    def late(path: str, body: Any) -> Any:
        asked.set()
        is_closed.wait(20)
        return answer(path, body)

    monkeypatch.setattr(server, "answer", late)
    alarm.deliver()
    with ThreadPoolExecutor(1) as threads:
        check = threads.submit(alarm.watch)
        asked.wait(20)
        alarm.close()
        is_closed.set()
        assert check.result(20) > 0


def test_closing_it_is_harmless_before_it_was_opened_and_twice(alarm: AlertLoops) -> None:
    alarm.close()
    alarm.deliver()
    alarm.close()
    alarm.close()
