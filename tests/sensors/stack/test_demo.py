"""What the demo shows of a journey."""

from datetime import UTC, datetime, timedelta

import pytest

from sensors.config.settings import Settings
from sensors.ledger.states import FileState
from sensors.reports.files import FileJourney
from sensors.stack.demo import alert_about, demo, steps, was_delivered
from sensors.stack.errors import StackError
from sensors.stack.state_dir import hold_state_folder
from tests.free_ports import free_ports

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def journey(state, *reached, **values):
    names = ("seen_at", "settled_at", "staged_at", "announced_at", "receipt_at", "ended_at")
    moments = {name: START + timedelta(seconds=at) for name, at in zip(names, range(len(reached)), strict=False)}
    blank = dict.fromkeys((*names, "arrival_id", "run_id", "run_name", "rows", "reason"))
    return FileJourney(**{**blank, **moments, "name": "a.csv", "inbox": "metrics", "state": state, **values})


def test_only_the_steps_that_were_reached_are_shown():
    shown = [step for _, step in steps(journey(FileState.SETTLED, 0, 1))]
    assert shown == ["seen by the sensor", "settled: no process is writing it any more"]


def test_a_loaded_file_ends_with_its_rows():
    end = steps(journey(FileState.LOADED, *range(6), arrival_id="a1", run_name="brave-otter", rows=3))[-1]
    assert end == (START + timedelta(seconds=5), "loaded: 3 rows")


def test_a_failed_file_ends_with_its_reason():
    end = steps(journey(FileState.FAILED, *range(6), arrival_id="a1", run_name="brave-otter", reason="line 3"))
    assert end[-1][1] == "failed: line 3"


def test_the_alert_about_a_run_is_found_whole_among_others(tmp_path):
    log = tmp_path / "alerts.log"
    log.write_text(
        "2026-11-24 09:00:00 UTC  Failed: other, run calm-seal\n    Message: x\n"
        "2026-11-24 09:00:01 UTC  Failed: pipeline, run brave-otter\n    Message: y\n"
        "2026-11-24 09:00:02 UTC  Failed: other, run calm-seal\n    Message: z\n"
    )
    failed = journey(FileState.FAILED, *range(6), run_name="brave-otter")
    assert alert_about(log, failed) == [
        "2026-11-24 09:00:01 UTC  Failed: pipeline, run brave-otter",
        "    Message: y",
    ]


def test_without_an_alert_about_the_run_none_is_found(tmp_path):
    assert alert_about(tmp_path / "none.log", journey(FileState.FAILED, *range(6), run_name="brave-otter")) == []
    assert alert_about(tmp_path / "none.log", journey(FileState.REJECTED, *range(2))) == []


def test_an_alert_counts_when_one_address_has_taken_it():
    entry = ["2026-11-24 09:00:01 UTC  Failed: pipeline, run brave-otter", "    goes to 1 (JSON), 2 (JSON)"]
    refused = (
        "2026-11-24 09:00:02 UTC  NOT delivered to 2 (JSON), it is tried again: Failed: pipeline, run brave-otter: no"
    )
    taken = "2026-11-24 09:00:02 UTC  delivered to 1 (JSON): Failed: pipeline, run brave-otter"
    assert was_delivered([*entry, refused, taken])
    assert not was_delivered([*entry, refused])
    assert was_delivered([entry[0], "    delivered nowhere else: no notification URLs are set"])
    assert not was_delivered([])


def test_a_stack_that_is_up_on_other_ports_is_reported_and_none_is_brought_up(tmp_path, monkeypatch):
    api_port, sensor_port, other = free_ports(3)
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("API_PORT", str(api_port))
    monkeypatch.setenv("SENSOR_PORT", str(sensor_port))
    runs = Settings(state_dir=tmp_path / "state", api_port=other, sensor_port=sensor_port)
    with hold_state_folder(runs), pytest.raises(StackError, match=f"runs on API_PORT {other}"):
        demo()


def test_the_alert_of_a_run_that_was_renamed_meanwhile_is_found_by_its_arrival(tmp_path):
    log = tmp_path / "alerts.log"
    log.write_text(
        "2026-11-24 09:00:01 UTC  Failed: pipeline, run brave-otter\n    Parameters: arrival_id=m-1\n"
        "2026-11-24 09:00:01 UTC  Failed: pipeline, run calm-seal\n    Parameters: arrival_id=m-2\n"
        "2026-11-24 09:00:02 UTC  delivered to 1 (JSON): Failed: pipeline, run brave-otter\n"
    )
    renamed = journey(FileState.FAILED, *range(6), arrival_id="m-1", run_name="a.csv @ metrics")
    alert = alert_about(log, renamed)
    assert len(alert) == 3
    assert was_delivered(alert)
