"""How much room the disks have, and what follows from it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sensors.files.file_systems import DiskSpace, DiskSpaceError, FileSystem, Minimum, read_file_systems

GB = 2**30
DISK = FileSystem(1, (Path("/data"),), ("the ledger",), 100 * GB, 50 * GB, 1_000_000, 500_000)


class Disk:
    """A disk whose room a test sets."""

    def __init__(self) -> None:
        self.now = DISK

    def read(self, _: Mapping[str, Path]) -> list[FileSystem]:
        return [self.now]

    def has(self, **room: int) -> None:
        self.now = replace(DISK, **room)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def space(disk: Disk) -> DiskSpace:
    return DiskSpace({"the ledger": Path("/data")}, Minimum(), disk.read)


@pytest.mark.parametrize(
    ("total", "expected"), [(8 * 2**20, round(8 * 2**20 * 0.05)), (20 * GB, GB), (10_000 * GB, 2 * GB)]
)
def test_the_usual_minimum_fits_the_disk(total: int, expected: int) -> None:
    assert Minimum.parse("").of(total) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("10%", 10 * GB), ("3GB", 3 * GB), ("500 mb", 500 * 2**20), ("1.5 GiB", 1.5 * GB), ("0", 0)]
)
def test_a_minimum_is_a_share_or_a_size(text: str, expected: int) -> None:
    assert Minimum.parse(text).of(100 * GB) == expected


@pytest.mark.parametrize("text", ["much", "-1", "100%", "5 apples", "%", "1 GB 2"])
def test_anything_else_is_a_mistake_that_says_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Minimum.parse(text)


def test_little_room_is_a_warning_and_the_intake_goes_on(disk: Disk, space: DiskSpace) -> None:
    disk.has(free=2 * GB - 1)
    space.look()
    [(low, scarce)] = space.low
    assert (low.device, scarce) == (1, "2.0 GB of 100.0 GB free, expected 2.2 GB")
    space.require()


@pytest.mark.parametrize("room", [{"free": GB // 2 - 1}, {"free_inodes": 4_999}])
def test_with_less_than_a_quarter_of_the_minimum_the_intake_pauses(
    disk: Disk, space: DiskSpace, room: dict[str, int]
) -> None:
    disk.has(**room)
    space.look()
    with pytest.raises(DiskSpaceError, match="nearly full; files wait in their inboxes"):
        space.require()


def test_a_pause_ends_with_twice_the_room_so_that_it_does_not_come_and_go(disk: Disk, space: DiskSpace) -> None:
    for free, is_paused in ((GB // 2 - 1, True), (GB // 2 + 1, True), (GB - 1, True), (GB, False), (GB // 2, False)):
        disk.has(free=free)
        space.look()
        assert bool(space.paused_by) is is_paused, free


def test_a_warning_ends_with_a_tenth_more_room(disk: Disk, space: DiskSpace) -> None:
    for free, is_low in ((2 * GB - 1, True), (2 * GB + 1, True), (3 * GB, False), (2 * GB, False)):
        disk.has(free=free)
        space.look()
        assert bool(space.low) is is_low, free


def test_a_file_system_without_a_number_of_inodes_of_its_own_never_lacks_them() -> None:
    assert replace(DISK, inodes=0, free_inodes=0).lacks(Minimum()) == ""


def test_folders_on_one_disk_are_read_once_and_one_that_is_not_there_yet_counts_where_it_will_be(
    tmp_path: Path,
) -> None:
    [found] = read_file_systems({"arrivals": tmp_path / "arrivals" / "deep", "logs": tmp_path})
    room = os.statvfs(tmp_path)
    assert found.parts == ("arrivals", "logs")
    assert found.total == room.f_blocks * room.f_frsize
    assert found.folders == (tmp_path, tmp_path)


def test_a_disk_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    def refuse(_: Path) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    assert read_file_systems({"logs": tmp_path}, refuse) == []
