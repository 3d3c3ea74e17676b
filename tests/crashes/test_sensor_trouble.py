"""Whatever breaks the intake rings the bell, once, and once when it is over: on a real sensor without any server."""

import os
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from automations.delivery.models import Alert
from sensors.ledger import Ledger
from tests.crashes.installation import LoneSensor, small_file_system
from tests.journeys.stack import wait_until
from tests.receiver import Receiver, receiving

TROUBLE_SECONDS = 4


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


def alarmed(sensor: LoneSensor, receiver: Receiver) -> LoneSensor:
    """Have a sensor that is not started yet send its alerts to the receiver, and nothing about its missing server."""
    sensor.environment |= {
        "NOTIFY_URLS": receiver.url(),
        "NOTIFY_STORM": "1000/1m",
        "SENSOR_TROUBLE_SECONDS": str(TROUBLE_SECONDS),
        "SERVER_SILENT_SECONDS": "86400",
    }
    return sensor


@pytest.fixture
def sensor(tmp_path: Path, receiver: Receiver) -> Iterator[LoneSensor]:
    made = alarmed(LoneSensor(tmp_path / "state"), receiver)
    yield made
    made.stop()


def titles(receiver: Receiver) -> list[str]:
    return [body["title"] for _, body in list(receiver.posts)]


def wait_for(receiver: Receiver, title: str, seconds: float = 90) -> str:
    """Return the message of the alert with a title, as soon as it has come."""
    found = wait_until(
        lambda: [body for _, body in list(receiver.posts) if body["title"] == title],
        f"an alert {title!r} has come, so far {titles(receiver)}",
        seconds,
    )
    return found[0]["message"]


def once_each(receiver: Receiver, *expected: str) -> None:
    """Check for some seconds that these alerts have come and no other."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert titles(receiver) == list(expected)
        time.sleep(0.2)


def take(sensor: LoneSensor, name: str) -> None:
    """Drop a file and wait until it is taken."""
    before = len(sensor.taken())
    (sensor.inbox / name).write_text("a\n1\n")
    wait_until(lambda: len(sensor.taken()) == before + 1, f"{name} is taken", 60)


LEDGER = "The ledger cannot be used"
MOVED = "The ledger was deleted, replaced or damaged"


def test_a_locked_ledger_is_one_alert_and_one_when_it_is_free_again(sensor, receiver):
    sensor.start()
    take(sensor, "a.csv")
    with closing(sqlite3.connect(sensor.state_dir / "ledger.db", isolation_level=None)) as locking:
        locking.execute("BEGIN IMMEDIATE")
        (sensor.inbox / "b.csv").write_text("a\n1\n")
        assert "locked" in wait_for(receiver, LEDGER, 120)
        locking.execute("ROLLBACK")
    wait_until(lambda: len(sensor.taken()) == 2, "the file is taken", 90)
    wait_for(receiver, f"Over: {LEDGER}", 120)
    once_each(receiver, LEDGER, f"Over: {LEDGER}")


def test_a_ledger_that_becomes_corrupt_while_it_is_used_is_one_alert(sensor, receiver):
    sensor.start()
    take(sensor, "a.csv")
    ledger = sensor.state_dir / "ledger.db"
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with ledger.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(ledger.stat().st_size - 4096))
    (sensor.inbox / "b.csv").write_text("a\n1\n")
    assert "just rebuild" in wait_for(receiver, LEDGER)
    assert (sensor.inbox / "b.csv").read_text() == "a\n1\n"
    once_each(receiver, LEDGER)


@pytest.mark.parametrize("names", [("ledger.db",), ("ledger.db", "ledger.db-wal", "ledger.db-shm"), ("ledger.db-wal",)])
def test_a_ledger_that_is_deleted_while_it_is_used_is_restored_without_loss(sensor, receiver, names):
    sensor.start()
    for name in ("a.csv", "b.csv"):
        take(sensor, name)
    wait_until(lambda: sensor.states() == {"staged": 2}, "both are recorded", 20)
    for name in names:
        (sensor.state_dir / name).unlink()
    (sensor.inbox / "c.csv").write_text("a\n1\n")
    assert "restored from the open file" in wait_for(receiver, MOVED, 30)
    wait_until(lambda: sensor.states() == {"staged": 3}, "nothing is missing, and files are taken as before", 60)
    with Ledger(sensor.state_dir / "ledger.db") as ledger:
        ledger.check()
    wait_for(receiver, f"Over: {MOVED}", 60)
    once_each(receiver, MOVED, f"Over: {MOVED}")
    sensor.stop()
    sensor.start()
    wait_until(lambda: sensor.states() == {"staged": 3}, "so after a restart", 30)


def test_a_ledger_in_whose_place_another_file_is_put_is_kept_and_nothing_is_written_into_it(sensor, receiver, tmp_path):
    sensor.start()
    take(sensor, "a.csv")
    wait_until(lambda: sensor.states() == {"staged": 1}, "it is recorded", 20)
    ledger = sensor.state_dir / "ledger.db"
    with Ledger(sensor.state_dir / "other.db"):
        pass
    (sensor.state_dir / "other.db").replace(ledger)
    (sensor.inbox / "b.csv").write_text("a\n1\n")
    message = wait_for(receiver, MOVED, 30)
    said = sensor.health()
    assert said["healthy"] is False
    assert MOVED in said["detail"]
    (kept,) = sensor.state_dir.glob("ledger.db.in-use-*")
    assert kept.name in message
    with Ledger(kept, read_only=True) as found:
        assert [row["name"] for row in found.rows("SELECT name FROM files WHERE state = 'staged'")] == ["a.csv"]
    assert (sensor.inbox / "b.csv").exists()
    alone = shutil.copy(ledger, tmp_path / "alone.db")  # without the log beside it, which belongs to the first one
    with Ledger(Path(alone), read_only=True) as other:
        assert other.rows("SELECT 1 FROM files") == []


def test_a_ledger_that_is_cut_short_while_it_is_used_is_noticed(sensor, receiver):
    sensor.start()
    take(sensor, "a.csv")
    with closing(sqlite3.connect(sensor.state_dir / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    time.sleep(3)  # the sensor looks at it every two seconds
    os.truncate(sensor.state_dir / "ledger.db", 4096)
    assert "just rebuild" in wait_for(receiver, MOVED, 30)
    assert sensor.health()["healthy"] is False


def test_a_state_folder_that_is_moved_away_is_noticed_and_the_alert_needs_nothing_in_it(sensor, receiver):
    sensor.start()
    take(sensor, "a.csv")
    sensor.state_dir.rename(sensor.state_dir.with_name("moved"))
    assert "while it was in use" in wait_for(receiver, "The state folder was deleted or replaced", 30)
    assert sensor.health()["healthy"] is False
    shutil.rmtree(sensor.state_dir, ignore_errors=True)
    sensor.state_dir.with_name("moved").rename(sensor.state_dir)
    wait_for(receiver, "Over: The state folder was deleted or replaced", 90)
    take(sensor, "b.csv")


def test_an_inbox_folder_that_is_deleted_is_noticed_and_made_again(sensor, receiver):
    sensor.start()
    take(sensor, "a.csv")
    shutil.rmtree(sensor.inbox)
    wait_for(receiver, "The folder of inbox metrics was deleted", 30)
    wait_until(sensor.inbox.is_dir, "it is there again", 10)
    take(sensor, "b.csv")
    wait_for(receiver, "Over: The folder of inbox metrics was deleted", 60)


def test_without_a_descriptor_left_the_alert_is_sent_all_the_same(sensor, receiver):
    sensor.start()
    take(sensor, "a.csv")
    process = psutil.Process(sensor.process.pid)
    before = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    (sensor.inbox / "b.csv").write_text("a\n1\n")
    title = "The sensor has no file descriptors left"
    assert "Too many open files" in wait_for(receiver, title)
    process.rlimit(resource.RLIMIT_NOFILE, before)
    wait_until(lambda: len(sensor.taken()) == 2, "the file is taken", 60)
    wait_for(receiver, f"Over: {title}")
    assert titles(receiver).count(title) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 MiB."""
    with small_file_system(tmp_path, "size=64m,nr_inodes=4000") as disk:
        yield disk


def fill(disk: Path, leave: int, name: str = "ballast") -> Path:
    """Fill a disk but for so many bytes."""
    ballast = disk / name
    room = os.statvfs(disk)
    with ballast.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leave))
    return ballast


def subject(title: str) -> str:
    """Return a title as an alert has it: with the long path of a test folder it is cut."""
    return Alert.of(title, "").subject


def outbox_of(sensor: LoneSensor) -> list[str]:
    """Return what the outbox says of alerts, their deliveries, channels and incidents, a line each."""
    with closing(sqlite3.connect(sensor.state_dir / "alerts.db")) as outbox:
        tables = ("alerts", "deliveries", "channels", "troubles", "gatherings")
        return [f"{table}: {row}" for table in tables for row in outbox.execute(f"SELECT * FROM {table}")]


def test_a_disk_that_fills_up_is_reported_before_it_is_full_and_the_intake_waits_until_there_is_room(
    tmp_path, small_disk, receiver
):
    dropped = tmp_path / "dropped"
    dropped.mkdir()
    sensor = alarmed(LoneSensor(small_disk / "state", beside=tmp_path, path=str(dropped)), receiver)
    sensor.environment["PYTHONFAULTHANDLER"] = "1"
    try:
        sensor.start()
        low = "Little room is left on the disk of the ledger, arrivals, logs, temporary files, the warehouse, "
        low = subject(f"{low}Prefect's database ({small_disk / 'state'})")
        ballast = fill(small_disk, 2 * 2**20)
        assert "free, expected" in wait_for(receiver, low, 30)
        assert sensor.health()["issues"][0]["is_warning"]
        (dropped / "a.csv").write_text("a\n1\n")
        wait_until(lambda: len(sensor.taken()) == 1, "there is room enough for a file", 30)
        ballast.unlink()
        ballast = fill(small_disk, 200_000)
        wait_until(lambda: "nearly full" in sensor.health()["detail"], "the intake pauses", 30)
        (dropped / "b.csv").write_text("a\n1\n")
        full = "The disk is full, the intake pauses"
        assert "files wait in their inboxes" in wait_for(receiver, full, 30)
        assert (dropped / "b.csv").exists()
        fill(small_disk, 0, "more")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            assert len(sensor.taken()) == 1
            assert sensor.process.poll() is None
            time.sleep(0.5)
        (small_disk / "more").unlink()
        ballast.unlink()
        wait_until(lambda: len(sensor.taken()) == 2, "the file is taken when there is room", 30)
        over = [subject(f"Over: {title}") for title in (low, full)]
        for title in over:
            wait_for(receiver, title, 60)
        assert sorted(titles(receiver)) == sorted([low, full, *over])
    except BaseException:
        assert sensor.process is not None
        sensor.signal(signal.SIGABRT)  # its log says then what each thread was doing
        sensor.process.wait(10)
        raise
    finally:
        sensor.stop()
        print(sensor.log.read_text(), *outbox_of(sensor), sep="\n")  # shown when the test fails


def test_a_disk_without_inodes_left_is_a_full_disk(tmp_path, small_disk, receiver):
    sensor = alarmed(LoneSensor(small_disk / "state", beside=tmp_path), receiver)
    try:
        sensor.start()
        litter = small_disk / "litter"
        litter.mkdir()
        with suppress(OSError):
            for number in range(5000):
                (litter / str(number)).touch()
        wait_until(lambda: "nearly full" in sensor.health()["detail"], "the intake pauses", 30)
        wait_until(lambda: receiver.naming("inodes"), "an alert says what is scarce", 30)
        shutil.rmtree(litter)
        take(sensor, "a.csv")
    finally:
        sensor.stop()
