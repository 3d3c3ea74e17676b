"""Writers of every habit, with a real sensor's loop and the real clock: nothing half written is ever taken."""

import mmap
import os
import threading
import time
from pathlib import Path

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import EmptyFiles, Inbox
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from tests.journeys.stack import wait_until


class Sensor:
    """The intake of one inbox in a loop of its own, as the daemon runs it."""

    def __init__(self, folder: Path, **rules: object) -> None:
        self.folder = folder
        rules = {"quiet_seconds": 0.4, "rescan_seconds": 0.5, "max_in_flight": 1000, **rules}
        self.inbox = Inbox.model_validate({"name": "metrics", "path": folder / "inbox", **rules})
        self.inbox.path.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.db")
        clock = Clock()
        watch = Watch(self.inbox.path, polling=self.inbox.watch == "polling")
        rejections = Rejections(self.inbox, self.ledger, FailedFolder(self.ledger, folder / "failed"), clock)
        intake = Intake(
            self.inbox, watch, self.ledger, Stager(self.ledger, folder / "arrivals", clock), rejections, clock
        )
        self.loop = Loop("inbox", lambda: intake.step().look_again_in, clock)
        watch.wake = self.loop.wake
        self.watch = watch
        self.loop.start()

    def path(self, name: str) -> Path:
        return self.inbox.path / name

    def taken(self) -> list[str]:
        """Return the content of every file that was taken."""
        # Not by rglob: an arrival of which the other sensor was faster takes its empty folder away meanwhile.
        found = os.walk(self.folder / "arrivals")
        files = (Path(folder) / name for folder, _, names in found for name in names if not name.startswith("."))
        return sorted(path.read_text() for path in files)

    def wait_for(self, *contents: str) -> None:
        wait_until(lambda: self.taken() == sorted(contents), f"{contents} are taken", 15, pause=0.02)

    def stop(self) -> None:
        self.loop.stop()
        self.loop.join(10)
        self.watch.close()
        self.ledger.close()


@pytest.fixture
def new_sensor(tmp_path):
    made: list[Sensor] = []

    def make(**rules: object) -> Sensor:
        made.append(Sensor(tmp_path / f"sensor{len(made)}", **rules))
        return made[-1]

    yield make
    for sensor in made:
        sensor.stop()


def test_a_slow_writer_is_waited_for(new_sensor):
    sensor = new_sensor()
    with sensor.path("a.csv").open("w") as slow:
        for n in range(8):
            slow.write(f"{n}\n")
            slow.flush()
            assert sensor.taken() == []
            time.sleep(0.15)  # longer than the grace, shorter than all of it: the writer's own pace
    sensor.wait_for("0\n1\n2\n3\n4\n5\n6\n7\n")


def test_a_writer_that_opens_appends_and_closes_many_times_is_taken_once_and_whole(new_sensor):
    sensor = new_sensor(grace_seconds=1.0)
    for n in range(20):
        with sensor.path("a.csv").open("a") as appender:
            appender.write(f"{n}\n")
        time.sleep(0.02)  # the writer's own pace
    sensor.wait_for("".join(f"{n}\n" for n in range(20)))


def test_a_file_that_is_mapped_for_writing_after_it_was_closed_is_waited_for(new_sensor):
    sensor = new_sensor()
    descriptor = os.open(sensor.path("a.csv"), os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"0123456789")
    mapped = mmap.mmap(descriptor, 10)
    os.close(descriptor)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert sensor.taken() == []
        mapped[0:1] = b"X"
        time.sleep(0.05)  # the writer's own pace
    mapped.close()
    sensor.wait_for("X123456789")


def test_a_rename_over_a_waiting_file_takes_the_last_one_only(new_sensor, tmp_path):
    sensor = new_sensor(done_file=".done")
    for n in range(5):
        (tmp_path / "next").write_text(f"version {n}")
        (tmp_path / "next").replace(sensor.path("a.csv"))
    sensor.path("a.csv.done").touch()
    sensor.wait_for("version 4")


def test_a_folder_that_is_renamed_into_the_inbox_is_taken_with_its_paths(new_sensor, tmp_path):
    sensor = new_sensor(subfolders=True)
    full = tmp_path / "full"
    (full / "deep").mkdir(parents=True)
    (full / "a.csv").write_text("a")
    (full / "deep" / "a.csv").write_text("deep a")
    full.rename(sensor.path("north"))
    sensor.wait_for("a", "deep a")
    names = sorted(row["name"] for row in sensor.ledger.rows("SELECT name FROM files"))
    assert names == ["north/a.csv", "north/deep/a.csv"]
    (sensor.path("north") / "b.csv").write_text("b")
    sensor.wait_for("a", "deep a", "b")


def test_files_that_are_deleted_and_replaced_all_the_time_are_each_taken_whole_or_not_at_all(new_sensor, tmp_path):
    sensor = new_sensor(grace_seconds=0.0)
    written: set[str] = set()

    def churn(writer: int) -> None:
        for n in range(60):
            text = f"{writer}/{n} " + "x" * 2000
            written.add(text)
            part = sensor.path(f".{writer}")
            part.write_text(text)
            part.replace(sensor.path(f"{writer}.csv"))
            if n % 7 == 0:
                sensor.path(f"{writer}.csv").unlink(missing_ok=True)

    threads = [threading.Thread(target=churn, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: not list(sensor.inbox.path.glob("*.csv")), "the inbox is empty", 15, pause=0.05)
    wait_until(
        lambda: not sensor.ledger.rows("SELECT 1 FROM files WHERE state NOT IN ('staged', 'withdrawn')"),
        "all is written down",
        15,
    )
    taken = sensor.taken()
    assert len(taken) == len(set(taken)), "none is taken twice"
    assert set(taken) <= written, "each is whole"
    assert sensor.ledger.rows("SELECT count(*) FROM files WHERE state = 'staged'")[0][0] == len(taken)


def test_without_events_files_are_found_by_polling(new_sensor):
    sensor = new_sensor(watch="polling")
    sensor.path("a.csv").write_text("a")
    sensor.wait_for("a")


def test_a_done_file_is_waited_for_and_an_older_one_does_not_count(new_sensor):
    sensor = new_sensor(done_file=".done")
    sensor.path("a.csv.done").touch()
    os.utime(sensor.path("a.csv.done"), (1, 1))
    sensor.path("a.csv").write_text("a")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert sensor.taken() == []
        time.sleep(0.05)
    sensor.path("a.csv.done").touch()
    sensor.wait_for("a")
    assert list(sensor.inbox.path.iterdir()) == []


@pytest.mark.parametrize("rule", list(EmptyFiles))
def test_an_empty_file_waits_is_rejected_or_is_taken_as_the_inbox_says(new_sensor, rule):
    sensor = new_sensor(empty=rule)
    sensor.path("empty.csv").touch()
    sensor.path("full.csv").write_text("full")
    sensor.wait_for(*(["full", ""] if rule is EmptyFiles.TAKE else ["full"]))
    expected = {EmptyFiles.WAIT: "seen", EmptyFiles.REJECT: "rejected", EmptyFiles.TAKE: "staged"}[rule]

    def states() -> list[str]:
        return [row["state"] for row in sensor.ledger.rows("SELECT state FROM files WHERE name = 'empty.csv'")]

    wait_until(lambda: states() == [expected], f"the empty file is {expected}", 15)
    deadline = time.monotonic() + 1.2  # two more scans, which must not see it as another one
    while time.monotonic() < deadline:
        assert states() == [expected]
        time.sleep(0.05)
    if rule is EmptyFiles.REJECT:
        shown = sensor.folder / "failed" / "inboxes" / "metrics"
        assert "empty.csv: the file is empty" in (shown / "REASONS.txt").read_text()


def test_symlinks_fifos_sockets_and_devices_are_left_alone(new_sensor, tmp_path):
    sensor = new_sensor()
    (tmp_path / "secret.csv").write_text("secret")
    sensor.path("link.csv").symlink_to(tmp_path / "secret.csv")
    os.mkfifo(sensor.path("pipe.csv"))
    sensor.path("folder.csv").mkdir()
    sensor.path("good.csv").write_text("good")
    sensor.wait_for("good")
    assert [row["name"] for row in sensor.ledger.rows("SELECT name FROM files")] == ["good.csv"]
    assert sorted(path.name for path in sensor.inbox.path.iterdir()) == ["folder.csv", "link.csv", "pipe.csv"]


def test_two_sensors_on_one_folder_take_each_file_once(new_sensor, tmp_path):
    one = new_sensor(path=tmp_path / "shared")
    two = new_sensor(path=tmp_path / "shared")
    texts = [f"file {n}" for n in range(300)]
    for n, text in enumerate(texts):
        one.path(f"{n}.csv").write_text(text)
    wait_until(lambda: len(one.taken()) + len(two.taken()) >= 300, "all are taken", 30)
    assert sorted(one.taken() + two.taken()) == sorted(texts)
    assert list(one.inbox.path.iterdir()) == []
