"""The folder `failed/` is written by us alone: no name that a user chooses, and no link of theirs, leads a write away.

The attacker may write to the inbox and nowhere else. The victim's file is beside it, and must stay as it is.
"""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger

OUR_NAMES = [
    "REASONS.txt",
    "REASONS",
    "reasons.txt",
    "REASONS.txt.url",
    "orders.url",
    "links",
    "shortcuts",
    "arrivals",
    "inboxes",
    "metrics",
    "up.pid",
    "up.ports",
    "up.lock",
    "ledger.db",
    "ledger.db-wal",
    "ledger.db.lock",
    "ledger.db.rebuilding",
    "alerts.db",
    "alerts.log",
    "warehouse.duckdb",
    "deployed.sha256",
    "haproxy.cfg",
    "demo-up.log",
    "metrics-20261124-140509-3f9a1c",
]
"""Every name that a process of ours gives a file or folder, as far as an inbox does not leave it alone."""


class Sensor:
    """A sensor on one inbox, which can be restarted; it takes `*.csv`, or whatever it is given."""

    def __init__(self, folder: Path, hand_clock, name: str = "metrics", patterns: tuple[str, ...] = ("*.csv",)) -> None:
        self.folder, self.hand_clock = folder, hand_clock
        self.inbox = Inbox(name=name, path=folder / "inbox" / name, patterns=patterns, subfolders=True)
        self.inbox.path.mkdir(parents=True)
        self.ledger = Ledger(folder / "ledger.db")
        self.failed = FailedFolder(self.ledger, folder / "failed")
        self.start()

    def start(self) -> None:
        """Begin with an empty memory, as after a crash, and show what is to be shown."""
        stager = Stager(self.ledger, self.folder / "arrivals", self.hand_clock.clock)
        rejections = Rejections(self.inbox, self.ledger, self.failed, self.hand_clock.clock)
        watch = Watch(self.inbox.path, polling=True)
        self.intake = Intake(self.inbox, watch, self.ledger, stager, rejections, self.hand_clock.clock)
        self.failed.show_all()

    def pass_time(self, steps: int = 6) -> None:
        for _ in range(steps):
            self.hand_clock.turn(1.1)
            self.intake.step()

    def fail_arrivals(self) -> list[str]:
        """Have every arrival fail, as if a run had rejected its files; return their ids."""
        self.ledger.change("UPDATE files SET state = 'rejected', reason = 'line 3' WHERE arrival_id IS NOT NULL")
        self.ledger.change("UPDATE arrivals SET state = 'failed'")
        return [row["id"] for row in self.ledger.rows("SELECT id FROM arrivals")]

    def reasons(self) -> str:
        return "".join(
            path.read_text() for path in (self.folder / "failed").rglob("REASONS.txt") if not path.is_symlink()
        )

    def links(self) -> list[Path]:
        return [path for path in (self.folder / "failed").rglob("*") if path.is_symlink()]


@pytest.fixture
def sensor(tmp_path, hand_clock):
    made = Sensor(tmp_path, hand_clock)
    yield made
    made.ledger.close()


@pytest.fixture
def victim(tmp_path):
    """A file that the attacker cannot write, such as another user's authorized_keys."""
    path = tmp_path / "authorized_keys"
    path.write_text("ssh-ed25519 the owner's\n")
    yield path
    assert path.read_text() == "ssh-ed25519 the owner's\n"


def drop(sensor: Sensor, name: str, text: str = "mine\n") -> Path:
    path = sensor.inbox.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def swap(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("name", OUR_NAMES)
def test_a_rejected_file_with_a_name_of_ours_is_not_written_to(sensor, name):
    path = drop(sensor, name)
    sensor.pass_time()
    drop(sensor, "other.pdf")
    sensor.pass_time()
    sensor.start()
    sensor.pass_time()
    assert path.read_text() == "mine\n"
    assert sensor.reasons().count(f"{name}: ") == 1
    assert sensor.reasons().count("other.pdf: ") == 1
    assert {link.resolve() for link in sensor.links()} == {path, sensor.inbox.path / "other.pdf"}


@pytest.mark.parametrize("when", ["before the scan", "before the next scan", "before the restart"])
@pytest.mark.parametrize("name", OUR_NAMES)
def test_a_rejected_file_that_is_swapped_for_a_link_leads_no_write_away(sensor, victim, name, when):
    path = sensor.inbox.path / name
    if when == "before the scan":
        swap(path, victim)
    else:
        drop(sensor, name)
    sensor.pass_time()
    drop(sensor, "the ssh key of the attacker.pdf")
    if when == "before the next scan":
        swap(path, victim)
    sensor.pass_time()
    swap(path, victim)
    sensor.start()
    sensor.pass_time()
    drop(sensor, "another key.pdf")
    sensor.pass_time()
    assert "the ssh key" in sensor.reasons()
    assert "another key.pdf" in sensor.reasons()


@pytest.mark.parametrize("name", OUR_NAMES)
@pytest.mark.usefixtures("victim")
def test_a_file_of_a_failed_arrival_with_a_name_of_ours_is_not_written_to(tmp_path, hand_clock, name):
    sensor = Sensor(tmp_path, hand_clock, patterns=("*",))
    for one in (name, "sub/" + name, "other.csv"):
        drop(sensor, one)
    sensor.pass_time()
    (arrival,) = sensor.fail_arrivals()
    for _ in range(2):
        sensor.failed.show(arrival)
        sensor.failed.refresh(arrival)
        sensor.start()
    assert sensor.reasons().count("line 3") == 3
    bad = sorted(link.resolve().relative_to(next((tmp_path / "arrivals").glob("*/*"))) for link in sensor.links())
    assert bad == sorted([Path(name), Path("sub") / name, Path("other.csv")])
    assert {link.read_text() for link in sensor.links()} == {"mine\n"}
    sensor.ledger.close()


@pytest.mark.parametrize("name", OUR_NAMES)
def test_a_failed_arrival_whose_files_are_links_by_now_leads_no_write_away(tmp_path, hand_clock, victim, name):
    sensor = Sensor(tmp_path, hand_clock, patterns=("*",))
    drop(sensor, name)
    sensor.pass_time()
    (arrival,) = sensor.fail_arrivals()
    sensor.failed.show(arrival)
    (folder,) = (tmp_path / "arrivals").glob("*/*")
    swap(folder / name, victim)
    sensor.start()
    sensor.failed.show(arrival)
    sensor.failed.refresh(arrival)
    assert sensor.reasons() == f"{name}: line 3\n"
    sensor.ledger.close()


def test_a_rejected_file_and_a_folder_that_has_its_name_later_are_both_shown_and_nothing_is_written_into_it(sensor):
    drop(sensor, "2026").unlink()
    drop(sensor, "2026")
    sensor.pass_time()
    (sensor.inbox.path / "2026").unlink()
    inner = drop(sensor, "2026/a.pdf")
    sensor.pass_time()
    assert [path.name for path in inner.parent.iterdir()] == ["a.pdf"]
    assert inner in {link.resolve() for link in sensor.links()}


def test_an_inbox_that_is_named_like_an_arrival_shares_no_folder_with_it(tmp_path, hand_clock):
    sensor = Sensor(tmp_path, hand_clock, name="metrics-20261124-140509-3f9a1c", patterns=("*.csv",))
    sensor.ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at)"
        " VALUES ('metrics-20261124-140509-3f9a1c', 'metrics', ?, 'failed', 1, '2026')",
        (str(tmp_path / "arrivals" / "d" / "metrics-20261124-140509-3f9a1c"),),
    )
    sensor.ledger.change(
        "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, reason, arrival_id, seen_at)"
        " VALUES ('metrics', 'x', 'bad.csv', '1', '1', 1, 1, 'failed', 'line 3', 'metrics-20261124-140509-3f9a1c', '1')"
    )
    drop(sensor, "report.pdf")
    sensor.start()
    sensor.pass_time()
    sensor.failed.refresh("metrics-20261124-140509-3f9a1c")
    found = sorted(path.read_text() for path in (tmp_path / "failed").rglob("REASONS.txt"))
    assert found[0] == "bad.csv: line 3\n"
    assert found[1].startswith("report.pdf: ")
    sensor.ledger.close()


UGLY = {
    "a line feed": "a\nb.csv",
    "an escape sequence": "\x1b[31mred.csv",
    "no UTF-8": os.fsdecode(b"caf\xe9.csv"),
    "255 bytes": "x" * 251 + ".csv",
    "255 bytes of line feeds": "\n" * 251 + ".csv",
    "a subfolder of such a name": "fol\nder/in\tner.csv",
    "a path of 900 bytes": "/".join(["f" * 200] * 4) + "/" + "x" * 210 + ".csv",
}


@pytest.mark.parametrize("name", UGLY.values(), ids=UGLY.keys())
def test_the_link_of_a_file_with_an_ugly_name_leads_to_it_and_its_reason_is_one_line(sensor, name):
    path = drop(sensor, name)
    sensor.pass_time()
    sensor.start()
    sensor.pass_time()
    assert [os.path.realpath(link) for link in sensor.links()] == [os.path.realpath(path)]
    lines = sensor.reasons().splitlines()
    assert len(lines) == 1
    assert sensor.reasons().isprintable() or sensor.reasons().removesuffix("\n").isprintable()


def test_two_files_whose_names_are_shown_alike_have_a_link_each(sensor):
    paths = [drop(sensor, name) for name in ("a\nb.pdf", "c/d.pdf", "c_d.pdf")]
    sensor.pass_time()
    sensor.start()
    sensor.pass_time()
    assert {os.path.realpath(link) for link in sensor.links()} == set(map(str, paths))


def test_what_release_1_0_0_left_in_failed_is_replaced_and_no_link_in_it_is_followed(sensor, victim, tmp_path):
    path, others = drop(sensor, "REASONS.txt"), tmp_path / "of another user"
    others.mkdir()
    (others / "kept").write_text("kept")
    old = tmp_path / "failed"
    for shown in ("metrics", "metrics-20261124-140509-3f9a1c", "arrivals", "inboxes"):
        (old / shown / "2025").mkdir(parents=True)
        (old / shown / "REASONS.txt").symlink_to(victim)
        (old / shown / "2025" / "a.pdf").symlink_to(others)
        (old / shown / "metrics").symlink_to(others)
        (old / shown / "folder").symlink_to(others)
        (old / shown / "orders.csv.url").write_text("[InternetShortcut]\n")
    (old / "lonely").symlink_to(others)
    sensor.start()
    sensor.pass_time()
    assert (others / "kept").read_text() == "kept"
    assert path.read_text() == "mine\n"
    assert {link.resolve() for link in sensor.links()} == {path}
    assert sensor.reasons().startswith("REASONS.txt: ")
    assert not (old / "metrics").exists()
    assert not os.path.lexists(old / "lonely")


def test_a_folder_of_a_failed_arrival_that_has_become_a_link_is_removed_and_what_it_leads_to_is_not(
    tmp_path, hand_clock
):
    sensor = Sensor(tmp_path, hand_clock)
    drop(sensor, "a.csv")
    sensor.pass_time()
    (arrival,) = sensor.fail_arrivals()
    sensor.failed.show(arrival)
    others = tmp_path / "of another user"
    (others / "links").mkdir(parents=True)
    (others / "REASONS.txt").write_text("kept")
    (shown,) = {path.parent for path in (tmp_path / "failed").rglob("REASONS.txt")}
    shown.rename(tmp_path / "away")
    shown.symlink_to(others)
    sensor.failed.refresh(arrival)
    sensor.start()
    assert (others / "REASONS.txt").read_text() == "kept"
    assert list((others / "links").iterdir()) == []
    assert not shown.is_symlink()
    sensor.ledger.close()


@pytest.fixture
def nested(sensor) -> Generator[None]:
    """Take away folders that neither pytest nor the tests after this one could look through."""
    yield
    subprocess.run(["rm", "-rf", *sensor.inbox.path.glob("f*")], check=True)


@pytest.mark.usefixtures("nested")
def test_a_path_that_is_too_long_for_a_link_costs_the_link_and_blocks_no_other_file(sensor):
    here = os.open(sensor.inbox.path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("f" * 200, dir_fd=here)
        below = os.open("f" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("deep.pdf", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    other = drop(sensor, "other.pdf")
    good = drop(sensor, "good.csv")
    sensor.pass_time()
    assert not good.exists()
    assert str(other) in {os.path.realpath(link) for link in sensor.links()}
    assert "other.pdf: " in sensor.reasons()


def test_two_files_whose_names_are_shown_alike_are_rejected_once_each(sensor):
    for name in ("a\nb.pdf", "a\\nb.pdf"):
        drop(sensor, name)
    sensor.pass_time(20)
    sensor.start()
    sensor.pass_time(5)
    assert sensor.ledger.rows("SELECT count(*) FROM files")[0][0] == 2
    assert sensor.ledger.rows("SELECT count(*) FROM notices")[0][0] == 1
