"""Remote inboxes: one specification for a real S3 server, the same without claims, and a real SFTP server."""

from collections.abc import Callable

import pytest

from sensors.ledger.files import still_blocked
from tests.remote_stack import RemoteStack
from tests.remote_world import SETTLED, World


def test_a_file_is_taken_once_whole_and_is_gone_from_the_store(world):
    sensor = world.sensor()
    content = b"a\n" + b"1\n" * 10_000
    world.remote.write("orders.csv", content)
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [content]}
    assert world.remote.all_names() == []
    assert sensor.states() == [("orders.csv", "staged")]
    (path,) = [row["path"] for row in sensor.ledger.rows("SELECT path FROM files")]
    assert path == f"{world.remote.url}/orders.csv"
    sensor.restart()
    sensor.pass_time(SETTLED)
    assert sensor.states() == [("orders.csv", "staged")]


def test_an_empty_folder_is_no_trouble(world):
    world.sensor().pass_time(SETTLED)


def test_the_same_name_again_is_another_file(world):
    sensor = world.sensor()
    for content in (b"first", b"second"):
        world.remote.write("orders.csv", content)
        sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"first", b"second"]}


def test_files_in_subfolders_keep_their_paths_and_hidden_folders_are_passed_over(world):
    sensor = world.sensor(subfolders=True)
    for name in ("north/a.csv", "north/sea/a.csv", "a.csv", ".trash/a.csv"):
        world.remote.write(name, name.encode())
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {name: [name.encode()] for name in ("north/a.csv", "north/sea/a.csv", "a.csv")}
    assert world.remote.all_names() == [".trash/a.csv"]


def test_without_subfolders_they_are_left_alone(world):
    sensor = world.sensor()
    world.remote.write("north/a.csv", b"1")
    sensor.pass_time(SETTLED)
    assert sensor.states() == []


def test_temporary_and_hidden_names_are_left_alone(world):
    sensor = world.sensor(temporary=["*.writing"])
    for name in ("a.csv.part", ".a.csv", "a.csv.writing"):
        world.remote.write(name, b"1")
    sensor.pass_time(SETTLED)
    assert sensor.states() == []
    assert len(world.remote.all_names()) == 3


def test_what_is_refused_stays_there_with_its_reason_and_is_reported_once(world):
    sensor = world.sensor(max_file_bytes=10)
    world.remote.write("report.pdf", b"%PDF")
    world.remote.write("large.csv", b"x" * 11)
    sensor.pass_time(SETTLED)
    sensor.restart()
    sensor.pass_time(SETTLED)
    assert sorted(sensor.states()) == [("large.csv", "rejected"), ("report.pdf", "rejected")]
    assert world.remote.all_names() == ["large.csv", "report.pdf"]
    shown = sensor.folder / "failed" / "inboxes" / "partner"
    assert f"URL={world.remote.url}/report.pdf" in (shown / "shortcuts" / "report.pdf.url").read_text()
    assert "report.pdf: inbox 'partner' takes" in (shown / "REASONS.txt").read_text()
    assert len(sensor.ledger.rows("SELECT * FROM notices")) == 1


def test_a_refused_file_that_is_replaced_after_it_was_deleted_is_refused_anew(world):
    sensor = world.sensor()
    for content in (b"%PDF 1", b"%PDF 22"):
        world.remote.write("report.pdf", content)
        sensor.pass_time(SETTLED)
        world.remote.delete("report.pdf")
        sensor.pass_time(SETTLED)
    assert sensor.states() == [("report.pdf", "withdrawn")] * 2, "each was rejected, and is not there any more"


def test_an_empty_file_waits_for_its_content(world):
    sensor = world.sensor()
    world.remote.write("orders.csv", b"")
    sensor.pass_time(SETTLED)
    assert sensor.states() == [("orders.csv", "seen")]
    world.remote.write("orders.csv", b"a")
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"a"]}


def test_an_empty_file_is_taken_or_rejected_where_that_is_the_rule(world):
    takes, rejects = world.sensor("takes", empty="take"), world.sensor("rejects", empty="reject")
    world.remote.write("orders.csv", b"")
    rejects.pass_time(SETTLED)
    assert rejects.states() == [("orders.csv", "rejected")]
    takes.pass_time(SETTLED)
    assert takes.staged() == {"orders.csv": [b""]}


def test_with_a_done_file_nothing_is_taken_before_it_and_both_go(world):
    sensor = world.sensor(done_file=".done")
    world.remote.write("orders.csv", b"1")
    sensor.pass_time(SETTLED)
    assert sensor.states() == [("orders.csv", "seen")]
    world.remote.write("orders.csv.done", b"")
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"1"]}
    assert world.remote.all_names() == []


@pytest.mark.parametrize("rule", ["skip", "reject"])
def test_a_duplicate_is_skipped_or_rejected(world, rule):
    sensor = world.sensor(duplicates=rule)
    for name in ("a.csv", "again.csv"):
        world.remote.write(name, b"the same")
        sensor.pass_time(SETTLED)
    assert sensor.states() == [("a.csv", "staged"), ("again.csv", "skipped" if rule == "skip" else "rejected")]
    assert world.remote.all_names() == ([] if rule == "skip" else ["again.csv"])


def test_a_file_that_its_owner_takes_away_is_forgotten(world):
    sensor = world.sensor()
    world.remote.write("empty.csv", b"")
    sensor.pass_time(SETTLED)
    world.remote.delete("empty.csv")
    sensor.pass_time(SETTLED)
    assert sensor.states() == [("empty.csv", "withdrawn")]


def overwrite_before(world: World, sensor: RemoteStack, method: str, monkeypatch, content: bytes) -> None:
    """Have the owner write another version just before the store is asked something for the first time."""
    store, done = sensor.origin.store, []
    original: Callable[..., object] = getattr(store, method)

    def first(*arguments: object, **named: object) -> object:
        if not done:
            done.append(True)
            world.remote.write("orders.csv", content)
        return original(*arguments, **named)

    monkeypatch.setattr(store, method, first)


@pytest.mark.parametrize("when", ["hold", "read", "is_whole", "remove"])
def test_what_is_written_over_a_file_while_it_is_taken_is_taken_as_well(world, monkeypatch, when):
    sensor = world.sensor()
    overwrite_before(world, sensor, when, monkeypatch, b"second, longer")
    world.remote.write("orders.csv", b"first")
    sensor.pass_time(3 * SETTLED)
    assert world.remote.all_names() == []
    taken = [content for contents in sensor.staged().values() for content in contents]
    assert taken.count(b"second, longer") == 1, "the newer version is never lost"
    assert set(taken) <= {b"first", b"second, longer"}
    if when == "remove" or (world.kind == "sftp" and when != "hold"):
        assert taken.count(b"first") == 1, "what was claimed or copied is kept as well"


def test_files_beyond_one_arrival_are_taken_one_arrival_after_the_other(world):
    sensor = world.sensor(max_files=3)
    for number in range(8):
        world.remote.write(f"{number}.csv", str(number).encode())
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {f"{number}.csv": [str(number).encode()] for number in range(8)}
    assert len(list(sensor.arrivals_dir.glob("*/*"))) == 3


def test_a_file_that_the_store_refuses_holds_up_no_other_and_is_reported(world, monkeypatch):
    sensor = world.sensor()
    read = sensor.origin.store.read

    def refuse_one(name, identity, token):
        if name == "locked.csv":
            raise PermissionError("not for you")
        return read(name, identity, token)

    monkeypatch.setattr(sensor.origin.store, "read", refuse_one)
    for name in ("locked.csv", "good.csv"):
        world.remote.write(name, b"1")
    sensor.pass_time(3 * SETTLED)
    (blocked,) = still_blocked(sensor.ledger, 5)
    assert blocked.name == "locked.csv"
    assert "not for you" in blocked.reason
    assert len(sensor.ledger.rows("SELECT * FROM notices")) == 1
    assert sensor.staged() == {"good.csv": [b"1"]}
    assert world.remote.all_names() == ["locked.csv"], "and its claim was given back"
    monkeypatch.undo()
    sensor.pass_time(60)
    assert still_blocked(sensor.ledger, 5) == []
    assert sorted(sensor.staged()) == ["good.csv", "locked.csv"]


@pytest.mark.parametrize("releases", [True, False], ids=["", "nor can its claim"])
def test_a_file_that_cannot_be_deleted_once_it_is_copied_waits_and_is_taken_once_in_the_end(
    world, monkeypatch, releases
):
    sensor = world.sensor()
    store = sensor.origin.store
    delete, release = ("_delete", "release") if world.kind != "sftp" else ("remove", "release")
    original, original_release = getattr(store, delete), getattr(store, release)

    def refuse_one(name, *arguments):
        if name == "locked.csv":
            raise PermissionError("Access Denied")
        return original(name, *arguments)

    def keep_claim(name, *arguments):
        if name == "locked.csv" and not releases and world.kind != "sftp":
            raise PermissionError("Access Denied")
        return original_release(name, *arguments)

    monkeypatch.setattr(store, delete, refuse_one)
    monkeypatch.setattr(store, release, keep_claim)
    for name in ("locked.csv", "good.csv"):
        world.remote.write(name, b"1")
    sensor.pass_time(3 * SETTLED)
    (blocked,) = still_blocked(sensor.ledger, 5)
    assert "may not be deleted there" in blocked.reason
    assert sensor.staged() == {"good.csv": [b"1"]}, "its copy would be loaded again and again"
    assert ("locked.csv", "seen") in sensor.states()
    sensor.restart()
    sensor.pass_time(3 * SETTLED)
    assert ("locked.csv", "seen") in sensor.states()
    assert len(sensor.ledger.rows("SELECT * FROM notices")) == 1
    monkeypatch.undo()
    sensor.restart()
    sensor.pass_time(60)
    assert sensor.staged() == {"good.csv": [b"1"], "locked.csv": [b"1"]}
    assert world.remote.all_names() == []
    assert sorted(sensor.states()) == [("good.csv", "staged"), ("locked.csv", "staged")]


def test_a_copy_that_is_cut_short_at_our_own_disk_is_repeated(world, monkeypatch):
    sensor = world.sensor()
    world.remote.write("orders.csv", b"1")
    with monkeypatch.context() as patched:
        patched.setattr("sensors.remote.source.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(OSError, match="disk full"):
            sensor.pass_time(SETTLED)
    assert sensor.staged() == {}
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"1"]}
    assert world.remote.all_names() == []
