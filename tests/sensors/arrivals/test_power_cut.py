"""A power cut at any moment of staging leaves each file whole in one known place, and the ledger says no other."""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sensors.arrivals import manifest
from sensors.config.inboxes import Inbox
from sensors.ledger import Ledger
from tests.deploy_files import program
from tests.one_inbox import OneInbox
from tests.power_cut import File, ForgetfulDisk, can_trace, traced

ROOT = Path(__file__).resolve().parents[3]
TAKEN = {"staged", "announced", "running", "loaded"}


@pytest.fixture(autouse=True)
def strace() -> None:
    program("strace", "strace")
    if not can_trace():
        pytest.skip("strace may not trace a program here")


def drop(inbox: Path, *names: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in names:
        path = inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        found[name] = f"rows of {name}\n".encode() * 50
        path.write_bytes(found[name])
        os.utime(path, ns=(10**18, 10**18))
    return found


def many(inbox: Path) -> dict[str, bytes]:
    return drop(inbox, *(f"{n}.csv" for n in range(3)), "north/0.csv", "north/east/0.csv")


def linked(inbox: Path) -> dict[str, bytes]:
    """One that is copied, because a hard link outside reaches it."""
    found = drop(inbox, "a.csv", "b.csv")
    (inbox.parent.parent / "outside").mkdir()
    os.link(inbox / "a.csv", inbox.parent.parent / "outside" / "a.csv")
    return found


class Cut:
    """The state of everything after a power cut."""

    def __init__(self, disk: ForgetfulDisk, folder: Path, *, with_names: bool) -> None:
        self.folder = folder
        self.files = {path: file for path, file in disk.kept(with_names=with_names).items() if "outside" not in path}
        self.there = disk.lay_out(folder, with_names=with_names)

    def ledger_rows(self) -> dict[str, sqlite3.Row]:
        if not (self.folder / "state" / "ledger.db").exists():
            return {}
        with closing(sqlite3.connect(self.folder / "state" / "ledger.db")) as ledger:
            ledger.row_factory = sqlite3.Row
            rows = ledger.execute(
                "SELECT f.name, f.state, a.folder, a.manifest FROM files f LEFT JOIN arrivals a ON a.id = f.arrival_id"
            )
            return {row["name"]: row for row in rows}

    def check(self, dropped: dict[str, bytes], real: Path, synced: set[str]) -> None:
        """Compare what is there with what the ledger says. `synced` names the files whose content has to last."""
        rows = self.ledger_rows()
        for name, content in dropped.items():
            places = [path for path, file in self.files.items() if _is_of(path, name)]
            assert places, f"{name} is nowhere"
            whole = [path for path in places if self.files[path].kept == content]
            if name in synced:
                assert whole, f"{name} was on the disk, and is whole nowhere"
            row = rows.get(name)
            if row is not None and row["state"] in TAKEN:
                folder = Path(row["folder"]).relative_to(real)
                assert whole == places == [f"{folder}/{name}"], f"the ledger says {row['state']} of {name}: {places}"
                listed = self.files[f"{folder}/{manifest.NAME}"].kept
                assert manifest.digest_of_content(listed) == row["manifest"]

    def recover(self, dropped: dict[str, bytes], real: Path, synced: set[str]) -> None:
        """Start the sensor on what is there; afterwards each file is in one arrival, whole, or still waits."""
        self._follow(real)
        inbox = Inbox(name="metrics", path=self.folder / "inbox" / "metrics", subfolders=True, max_files=100)
        world = OneInbox(self.folder / "state", inbox)
        try:
            world.pass_time(8)
            rows = world.ledger.rows(
                "SELECT f.name, f.state, a.folder FROM files f JOIN arrivals a ON a.id = f.arrival_id"
            )
        finally:
            world.ledger.close()
        taken = sorted(row["name"] for row in rows if row["state"] == "staged")
        assert len(taken) == len(set(taken)), f"taken twice: {taken}"
        assert synced <= set(taken)
        for row in rows:
            assert Path(row["folder"], row["name"]).read_bytes() == dropped[row["name"]]
        left = [path for path in inbox.path.rglob("*") if path.is_file() and path.stat().st_size]
        assert [path for path in left if str(path.relative_to(inbox.path)) in taken] == []
        assert not [path for path in left if path.name.startswith(".taking-")]

    def _follow(self, real: Path) -> None:
        """Let the ledger know what the files are here: a copy of them has other inodes and is elsewhere."""
        path = self.folder / "state" / "ledger.db"
        if not path.exists():
            return
        Ledger(path).close()
        with closing(sqlite3.connect(path)) as ledger, ledger:
            ledger.execute("UPDATE arrivals SET folder = replace(folder, ?, ?)", (str(real), str(self.folder)))
            ledger.execute("UPDATE files SET path = replace(path, ?, ?)", (str(real), str(self.folder)))
            for file, status in self.there.items():
                names = [path.partition("metrics/")[2] for path, other in self.files.items() if other is file]
                for name in names or [""]:
                    plain = name.rpartition("-")[2] if ".taking-" in name else name
                    ledger.execute(
                        "UPDATE files SET device = ?, inode = ? WHERE name = ?",
                        (str(status.st_dev), str(status.st_ino), plain),
                    )


def _is_of(path: str, name: str) -> bool:
    """Return whether a path is where a dropped file may be: in the inbox, claimed there, or in an arrival."""
    plain = name.rpartition("/")[2]
    if path.startswith("inbox/metrics/"):
        below = path.removeprefix("inbox/metrics/")
        return below == name or (".taking-" in below and below.endswith(f"-{plain}"))
    parts = path.split("/", 4)
    return path.startswith("state/arrivals/") and len(parts) > 4 and parts[4] == name


@pytest.mark.parametrize("files", [many, linked])
@pytest.mark.parametrize("plain", ["", "plain"])
def test_a_power_cut_at_any_moment_costs_no_file_and_makes_none_two(
    tmp_path: Path, files: Callable[[Path], dict[str, bytes]], plain: str
):
    real = tmp_path / "real"
    inbox = real / "inbox" / "metrics"
    dropped = files(inbox)
    Ledger(real / "state" / "ledger.db").close()
    disk = ForgetfulDisk(real)
    disk.keep(real / "state" / "ledger.db")
    command = [sys.executable, "-m", "tests.sensors.arrivals.staging_process", str(real / "state"), str(inbox)]
    calls = traced([*command, *filter(None, [plain])], tmp_path / "calls", ROOT)
    nodes: dict[str, File] = {name: disk.kept()[f"inbox/metrics/{name}"] for name in dropped}
    seen: set[object] = set()
    count = 0
    for number, line in enumerate(["", *calls]):
        if not disk.replay(line) and line:
            continue
        for with_names in (False, True):
            left = disk.kept(with_names=with_names)
            state = (with_names, frozenset((path, id(file), file.kept) for path, file in left.items()))
            if state in seen:
                continue
            seen.add(state)
            count += 1
            synced = {name for name, file in nodes.items() if file.kept == dropped[name]}
            cut = Cut(disk, tmp_path / f"cut-{number}-{with_names}", with_names=with_names)
            cut.check(dropped, real, synced)
            cut.recover(dropped, real, synced)
    assert count > 10
    assert set(Cut(disk, tmp_path / "end", with_names=False).ledger_rows()) == set(dropped)
    assert {row["state"] for row in Cut(disk, tmp_path / "end2", with_names=False).ledger_rows().values()} == {"staged"}
