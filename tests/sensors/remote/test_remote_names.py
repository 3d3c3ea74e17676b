"""Hostile names in a store: refused with a reason or left alone, and never a path outside the arrival."""

from contextlib import suppress
from pathlib import Path

import pytest

from sensors.remote.store import StoreError
from tests.object_store import Bucket
from tests.remote_world import SETTLED, World


@pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)
@pytest.mark.parametrize("subfolders", [False, True])
def test_names_that_no_local_file_may_have_are_refused_as_local_ones_are(world: World, subfolders):
    sensor = world.sensor(subfolders=subfolders)
    names = ["bell\x07.csv", "x" * 200 + ".csv", "good.csv"]
    for name in names:
        world.remote.write(name, b"1")
    sensor.pass_time(SETTLED)
    assert list(sensor.staged()) == ["good.csv"]
    reasons = {row["name"]: row["reason"] for row in sensor.ledger.rows("SELECT name, reason FROM files")}
    assert "control characters" in reasons["bell\\x07.csv"]
    assert "has 204 bytes, at most 200" in reasons["x" * 200 + ".csv"]
    assert len(world.remote.all_names()) == 2


@pytest.mark.parametrize("world", ["s3"], indirect=True)
def test_keys_that_are_no_paths_are_refused_and_nothing_is_written_outside(world: World):
    sensor = world.sensor(subfolders=True)
    bucket = world.remote
    assert isinstance(bucket, Bucket)
    bad = ["../../../out.csv", "a/../../out.csv", "a//b.csv", "./a.csv", "/a.csv", "y" * 201 + "/a.csv"]
    for name in [*bad, "folder/", "", "a.csv?versionId=1", ".hidden/a.csv", "fine/a.csv"]:
        bucket.write(name, b"1")
    before = everything_in(world.folder.parent)
    sensor.pass_time(SETTLED)
    assert list(sensor.staged()) == ["fine/a.csv"]
    assert {name for name, state in sensor.states() if state == "rejected"} == {*bad, "a.csv?versionId=1"}
    new = everything_in(world.folder.parent) - before
    assert all(path.is_relative_to(sensor.folder) for path in new)
    assert not [path for path in new if path.name == "out.csv"]


@pytest.mark.parametrize("world", ["s3"], indirect=True)
def test_a_key_that_is_another_ones_folder_is_taken_as_well(world: World):
    sensor = world.sensor(subfolders=True, patterns=["*"])
    for name in ("a.csv", "a.csv/b.csv"):
        world.remote.write(name, name.encode())
    for _ in range(20):
        with suppress(StoreError):  # it is told that one of both waits for the next arrival
            sensor.step()
        sensor.hand.turn(1)
    assert sensor.staged() == {"a.csv": [b"a.csv"], "a.csv/b.csv": [b"a.csv/b.csv"]}
    assert world.remote.all_names() == []


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_symlinks_and_names_that_are_not_utf8_hide_no_other_file(world: World, tmp_path):
    sensor = world.sensor()
    outside = tmp_path / "outside.csv"
    outside.write_text("secret")
    folder = world.remote.on_disk
    (folder / "link.csv").symlink_to(outside)
    (Path(folder) / "caf\udce9.csv").write_bytes(b"1")
    world.remote.write("good.csv", b"1")
    sensor.pass_time(SETTLED)
    assert list(sensor.staged()) == ["good.csv"]
    rejected = sensor.ledger.rows("SELECT name, reason FROM files WHERE state = 'rejected'")
    assert [(row["name"], row["reason"]) for row in rejected] == [
        ("caf\\udce9.csv", "the name is not UTF-8; rename the file")
    ]


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
