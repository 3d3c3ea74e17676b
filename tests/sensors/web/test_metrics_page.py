"""What Prometheus gets at a scrape."""

from datetime import timedelta

import pytest

from sensors.ledger import Ledger
from sensors.runtime.loop import Loop
from tests.dropped_arrivals import record_arrival, record_waiting
from tests.scrape import Sensor, get, samples_in


@pytest.fixture
def sensor(ledger, tmp_path, hand_clock):
    well = Loop("inbox metrics", lambda: 60.0, hand_clock.clock)
    well.start()
    ill = Loop("prefect", lambda: 60.0, hand_clock.clock)
    ill.trouble = "ApiError: POST /secret/name.csv: 500"
    sensor = Sensor(tmp_path, hand_clock.clock, [well, ill])
    yield sensor
    well.stop()
    well.join()
    sensor.collector.close()


def test_the_books_of_an_inbox_are_given_entry_by_entry_and_balance(sensor, ledger, hand_clock):
    record_arrival(ledger, "m-1", hand_clock.now, {"a.csv": "loaded", "b.csv": "rejected"}, state="failed")
    record_waiting(ledger, "c.csv", hand_clock.now - timedelta(seconds=7))
    found = sensor.scrape()
    assert found["blueprint_files_seen", "metrics"] == 3
    entries = {key[1]: value for key, value in found.items() if key[0] == "blueprint_files"}
    assert entries == {"waiting": 1, "in_flight": 0, "loaded": 1, "rejected": 1, "failed": 0}
    assert found["blueprint_books_imbalance", "metrics"] == 0
    assert found["blueprint_oldest_waiting_seconds", "metrics"] == 7
    assert found[("blueprint_books_counted_timestamp_seconds",)] == hand_clock.now.timestamp()


def test_an_inbox_in_which_nothing_has_happened_is_there_with_zeros(sensor):
    found = sensor.scrape()
    assert found["blueprint_files_seen", "metrics"] == 0
    assert found["blueprint_seen_to_run_seconds_count", "metrics"] == 0
    assert found["blueprint_announcements_repeated_total", "metrics"] == 0


def test_latencies_are_histograms_of_the_arrivals_since_the_start(sensor, ledger, hand_clock):
    record_arrival(ledger, "old", hand_clock.now - timedelta(hours=1), {"z.csv": "loaded"})
    hand_clock.turn(1)
    record_arrival(ledger, "m-1", hand_clock.now, {"a.csv": "loaded"}, seconds_to_run=0.7)
    record_arrival(ledger, "m-2", hand_clock.now, {"b.csv": "loaded"}, seconds_to_run=4.0)
    sensor.scrape()
    found = sensor.scrape()
    assert found["blueprint_seen_to_run_seconds_count", "metrics"] == 2
    assert found["blueprint_seen_to_run_seconds_sum", "metrics"] == pytest.approx(4.7)
    assert found["blueprint_seen_to_run_seconds_bucket", "metrics", "0.75"] == 1
    assert found["blueprint_seen_to_outcome_seconds_count", "metrics"] == 2
    assert "read at each scrape; a restart begins anew" in get(sensor.app, "/metrics").text


def test_loops_the_way_of_watching_and_the_version_are_reported(sensor):
    found = sensor.scrape()
    assert found["blueprint_loop_alive", "inbox metrics"] == 1
    assert found["blueprint_loop_troubled", "inbox metrics"] == 0
    assert found["blueprint_loop_alive", "prefect"] == 0
    assert found["blueprint_loop_troubled", "prefect"] == 1
    assert found["blueprint_inbox_watch", "metrics", "events"] == 1
    [build] = [key for key in found if key[0] == "blueprint_build_info"]
    assert "1.0.0" in build
    assert found[("blueprint_alerts_pending",)] == 0
    assert found[("process_resident_memory_bytes",)] > 0


def test_no_file_name_and_no_reason_is_in_it(sensor, ledger, hand_clock):
    record_arrival(ledger, "m-1", hand_clock.now, {"name.csv": "rejected"}, state="failed")
    text = get(sensor.app, "/metrics").text
    assert "name.csv" not in text
    assert "no number" not in text
    assert "m-1" not in text


def test_a_ledger_that_cannot_be_read_is_reported_and_all_else_is_there(tmp_path, hand_clock):
    sensor = Sensor(tmp_path / "none", hand_clock.clock)
    found = sensor.scrape()
    assert found[("blueprint_ledger_readable",)] == 0
    assert ("blueprint_files_seen", "metrics") not in found
    assert found["blueprint_inbox_watch", "metrics", "events"] == 1
    with Ledger(tmp_path / "none" / "ledger.db"):
        assert sensor.scrape()[("blueprint_ledger_readable",)] == 1  # it is tried again
    sensor.collector.close()


def test_a_scraper_that_prefers_openmetrics_gets_it(sensor):
    answer = get(sensor.app, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_plain_format_is_what_everybody_else_gets(sensor):
    answer = get(sensor.app, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert ("blueprint_ledger_readable",) in samples_in(answer.text)
