"""The server's silence, of which nobody but the sensor can tell."""

from datetime import timedelta

from automations.alert_service import AlertService
from sensors.alerts.server_watch import ServerSilence
from tests.postings import at


def watched(ringer: AlertService) -> ServerSilence:
    return ServerSilence(ringer, "http://127.0.0.1:4200", timedelta(seconds=60))


def reported(ringer: AlertService) -> list[str]:
    rows = ringer.bell.outbox.rows("SELECT kind FROM alerts WHERE state <> 'cancelled' ORDER BY rowid")
    return [row["kind"] for row in rows]


def test_a_silence_is_reported_once_and_its_end_once(ringer: AlertService) -> None:
    silence = watched(ringer)
    silence.heard(at(0))
    for second in range(1, 200):
        silence.not_heard("no server listens", at(second))
        assert reported(ringer) == (["server-silent"] if second >= 61 else [])
    for second in range(200, 210):
        silence.heard(at(second))
    assert reported(ringer) == ["server-silent", "server-back"]


def test_a_short_silence_is_not_reported(ringer: AlertService) -> None:
    silence = watched(ringer)
    for begin in (0, 100):
        for second in range(59):
            silence.not_heard("no server listens", at(begin + second))
        silence.heard(at(begin + 59))
    assert reported(ringer) == []


def test_the_alert_says_since_when_why_and_what_to_do_in_a_few_lines(ringer: AlertService) -> None:
    silence = watched(ringer)
    silence.not_heard("first", at(0))
    silence.not_heard("x" * 10_000 + "hunter22", at(60))
    [alert] = ringer.bell.outbox.rows("SELECT * FROM alerts")
    assert alert["subject"] == "The Prefect server is silent"
    assert [line.split(":")[0] for line in alert["body"].splitlines()] == [
        "Server",
        "Since",
        "Reason",
        "Meanwhile",
        "Next",
    ]
    assert "09:00:00" in alert["body"] or "Since: 2026" in alert["body"]
    assert len(alert["body"]) < 800


def test_a_sensor_that_is_started_anew_does_not_report_it_again(ringer: AlertService) -> None:
    for start in (0, 1000, 2000):
        silence = watched(ringer)
        silence.not_heard("no server listens", at(start))
        silence.not_heard("no server listens", at(start + 60))
    assert reported(ringer) == ["server-silent"]


def test_a_sensor_that_is_started_anew_reports_that_it_is_over(ringer: AlertService) -> None:
    silence = watched(ringer)
    silence.not_heard("no server listens", at(0))
    silence.not_heard("no server listens", at(60))
    watched(ringer).heard(at(100))
    watched(ringer).heard(at(200))
    assert reported(ringer) == ["server-silent", "server-back"]


def test_the_next_silence_is_reported_again(ringer: AlertService) -> None:
    silence = watched(ringer)
    for begin in (0, 1000):
        silence.not_heard("no server listens", at(begin))
        silence.not_heard("no server listens", at(begin + 60))
        silence.heard(at(begin + 100))
    assert reported(ringer) == ["server-silent", "server-back"] * 2


def test_a_clock_that_is_set_back_makes_the_patience_no_longer_than_it_is(ringer: AlertService) -> None:
    silence = watched(ringer)
    silence.not_heard("no server listens", at(86_400))
    silence.not_heard("no server listens", at(0))
    silence.not_heard("no server listens", at(60))
    assert reported(ringer) == ["server-silent"]
