"""A file is rejected once it has settled, and its rejection is withdrawn when the file is not there any more."""

import os
import signal

import pytest

from sensors.config.inboxes import Inbox
from sensors.inbox import rejections
from sensors.reports.arrivals import books_of
from sensors.reports.days import count
from sensors.runtime import crash_points
from tests.one_inbox import OneInbox


@pytest.fixture
def sensor(tmp_path) -> OneInbox:
    (tmp_path / "inbox").mkdir()
    return OneInbox(tmp_path / "state", Inbox.model_validate({"name": "metrics", "path": tmp_path / "inbox"}))


def shown(sensor: OneInbox) -> list[str]:
    return sorted(path.name for path in (sensor.settings.failed_dir / "inboxes").glob("metrics/links/*"))


def is_balanced(sensor: OneInbox) -> bool:
    tally = count(sensor.ledger, sensor.hand.clock).inboxes
    return all(one.imbalance == 0 for one in tally.values())


def nothing_needs_attention(sensor: OneInbox) -> bool:
    books = books_of(sensor.ledger, ["metrics"])["metrics"]
    return (sensor.attention(), shown(sensor), books.rejected) == ([], [], 0) and is_balanced(sensor)


def test_a_file_under_an_unknown_name_that_is_renamed_within_seconds_is_never_rejected(sensor):
    sensor.pass_time(1)
    path = sensor.inbox.path / "orders.csv.uploading"
    path.write_text("a\n1\n")
    sensor.pass_time(3)
    path.rename(sensor.inbox.path / "orders.csv")
    sensor.pass_time(10)
    assert sensor.states() == {"orders.csv": "staged"}
    assert sensor.notices() == []
    assert nothing_needs_attention(sensor)


def test_a_file_that_is_being_written_or_grows_is_not_rejected(sensor):
    with (sensor.inbox.path / "orders.csv.uploading").open("w") as written:
        written.write("a\n")
        written.flush()
        sensor.pass_time(60)
        assert sensor.states() == {}
    for _ in range(10):
        with (sensor.inbox.path / "orders.csv.uploading").open("a") as written:
            written.write("1\n")
        sensor.pass_time(4)
    assert sensor.states() == {}
    sensor.pass_time(10)
    assert sensor.states() == {"orders.csv.uploading": "rejected"}


def test_a_file_that_is_too_large_is_rejected_when_it_has_settled_and_one_that_shrinks_before_is_taken(sensor):
    sensor.inbox = sensor.inbox.model_copy(update={"max_file_bytes": 10})
    sensor.restart()
    for name in ("large.csv", "shrinks.csv"):
        (sensor.inbox.path / name).write_text("a\n" * 10)
    sensor.pass_time(2)
    assert sensor.states() == {}
    (sensor.inbox.path / "shrinks.csv").write_text("a\n")
    sensor.pass_time(12)
    assert sensor.states() == {"large.csv": "rejected", "shrinks.csv": "staged"}
    (sensor.inbox.path / "large.csv").write_text("a\n")
    sensor.pass_time(12)
    assert [row["state"] for row in sensor.ledger.rows("SELECT state FROM files WHERE name = 'large.csv'")] == [
        "withdrawn",
        "staged",
    ]
    assert nothing_needs_attention(sensor)


@pytest.mark.parametrize("goes", ["deleted", "renamed"])
@pytest.mark.parametrize("when", ["running", "stopped"])
def test_the_rejection_of_a_file_that_is_gone_is_withdrawn_everywhere(sensor, goes, when):
    path = sensor.inbox.path / "orders.csv.uploading"
    path.write_text("a\n1\n")
    (sensor.inbox.path / "report.pdf").write_text("%PDF")
    sensor.pass_time(12)
    assert sensor.states() == {"orders.csv.uploading": "rejected", "report.pdf": "rejected"}
    assert len(sensor.notices()) == 1, "that they were rejected"
    if goes == "deleted":
        path.unlink()
    else:
        path.rename(sensor.inbox.path / "orders.csv")
    if when == "stopped":
        sensor.restart()
    sensor.pass_time(12)
    expected = {"orders.csv.uploading": "withdrawn", "report.pdf": "rejected"}
    assert sensor.states() == expected | ({} if goes == "deleted" else {"orders.csv": "staged"})
    assert shown(sensor) == ["report.pdf"]
    assert len(sensor.attention()) == 1
    reasons = sensor.settings.failed_dir / "inboxes" / "metrics" / "REASONS.txt"
    assert "uploading" not in reasons.read_text()
    (sensor.inbox.path / "report.pdf").unlink()
    sensor.pass_time(6)
    assert nothing_needs_attention(sensor)
    assert len(sensor.notices()) == 1


def test_a_hostile_name_that_comes_and_goes_before_it_settles_leaves_nothing(sensor):
    path = os.path.join(os.fsencode(sensor.inbox.path), b"\xff\n.csv")  # noqa: PTH118 - bytes
    with open(path, "w") as hostile:  # noqa: PTH123
        hostile.write("a\n")
    sensor.pass_time(2)
    os.unlink(path)  # noqa: PTH108
    sensor.pass_time(10)
    assert sensor.states() == {}
    with open(path, "w") as hostile:  # noqa: PTH123
        hostile.write("a\n")
    sensor.pass_time(10)
    assert sensor.states() == {"\\udcff\\n.csv": "rejected"}


def test_a_temporary_name_is_shown_and_reported_once_when_it_has_stayed_for_a_day(sensor):
    for name in ("orders.csv.partial", "prices.csv.crdownload", "Thumbs.db"):
        (sensor.inbox.path / name).write_text("a\n")
    sensor.pass_time(5)
    assert sensor.watch.being_written == ("orders.csv.partial", "prices.csv.crdownload")
    assert (sensor.states(), sensor.notices()) == ({}, [])
    import datetime

    sensor.hand.now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=23)
    sensor.pass_time(5)
    assert sensor.notices() == []
    sensor.hand.now += datetime.timedelta(hours=2)
    sensor.pass_time(5)
    (notice,) = sensor.notices()
    assert notice["event"] == "inbox.files.waiting"
    assert notice["count"] == 2
    assert "orders.csv.partial" in notice["text"]
    (sensor.inbox.path / "prices.csv.crdownload").rename(sensor.inbox.path / "prices.csv")
    sensor.restart()
    sensor.pass_time(60)
    assert len(sensor.notices()) == 1, "it is not said again, after a restart either"
    assert sensor.watch.being_written == ("orders.csv.partial",)
    assert sensor.states() == {"prices.csv": "staged"}


def test_an_inbox_with_a_done_file_rejects_what_it_does_not_take_as_well(sensor):
    sensor.inbox = sensor.inbox.model_copy(update={"done_file": ".done"})
    sensor.restart()
    (sensor.inbox.path / "report.pdf").write_text("")
    sensor.pass_time(12)
    assert sensor.states() == {"report.pdf": "rejected"}


def test_two_files_whose_names_are_written_down_alike_are_rejected_once_each(sensor):
    for name in ("a\nb.pdf", "a\\nb.pdf"):
        (sensor.inbox.path / name).write_text("%PDF")
    sensor.pass_time(20)
    sensor.restart()
    sensor.pass_time(60)
    assert [row["state"] for row in sensor.ledger.rows("SELECT state FROM files")] == ["rejected"] * 2
    assert len(sensor.notices()) == 1
    (sensor.inbox.path / "a\nb.pdf").unlink()
    sensor.pass_time(12)
    assert sorted(row["state"] for row in sensor.ledger.rows("SELECT state FROM files")) == ["rejected", "withdrawn"]


def test_a_rejected_file_that_grows_now_and_then_is_not_reported_again(sensor):
    for _ in range(5):
        with (sensor.inbox.path / "access.log").open("a") as log:
            log.write("line\n")
        sensor.pass_time(60)
    sensor.restart()
    with (sensor.inbox.path / "access.log").open("a") as log:
        log.write("line\n")
    sensor.pass_time(60)
    assert sensor.states() == {"access.log": "rejected"}
    assert len(sensor.ledger.rows("SELECT * FROM files")) == 1
    assert len(sensor.notices()) == 1


@pytest.mark.parametrize("point", ["refused", "rejection-withdrawn"])
def test_a_sensor_that_is_killed_while_it_rejects_or_withdraws_goes_on_with_it(tmp_path, point):
    (tmp_path / "inbox").mkdir()
    inbox = Inbox.model_validate({"name": "metrics", "path": tmp_path / "inbox"})
    for name in ("report.pdf", "other.pdf"):
        (inbox.path / name).write_text("%PDF")
    child = os.fork()
    if child == 0:
        crash_points._armed, crash_points._left = point, 1
        rejections.kill_point = crash_points._kill_at
        victim = OneInbox(tmp_path / "state", inbox)
        victim.pass_time(12)
        (inbox.path / "report.pdf").unlink()
        victim.pass_time(12)
        os._exit(2)  # it was not killed
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (inbox.path / "report.pdf").unlink(missing_ok=True)
    sensor = OneInbox(tmp_path / "state", inbox)
    sensor.pass_time(12)
    assert sensor.states() == {"report.pdf": "withdrawn", "other.pdf": "rejected"}
    assert shown(sensor) == ["other.pdf"]
    assert len(sensor.notices()) == 1
    assert is_balanced(sensor)
