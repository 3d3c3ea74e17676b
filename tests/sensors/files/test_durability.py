"""What many files hold is written to the disk at one time, and by itself only where that cannot be done."""

import errno
import os
from pathlib import Path

import pytest

from sensors.files import durability
from sensors.files.durability import FEW, sync_contents


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    (tmp_path / "north").mkdir()
    found = [*(f"{n}.csv" for n in range(FEW)), "north/a.csv"]
    for name in found:
        (tmp_path / name).write_text(name)
    return found


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files are synced by themselves."""
    found: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_a_few_files_are_left_to_be_synced_where_each_is_open_anyway(tmp_path, names, synced):
    assert sync_contents(tmp_path, names[:FEW]) is False
    assert synced == []


def test_many_files_of_a_file_system_of_this_machine_need_one_system_call(tmp_path, names, synced, monkeypatch):
    monkeypatch.setattr(durability, "kind_of", lambda _: "ext4")
    assert sync_contents(tmp_path, [*names, "gone.csv", "gone/a.csv"]) is True
    assert synced == []


def test_many_files_of_a_network_mount_are_synced_each_by_itself(tmp_path, names, synced, monkeypatch):
    monkeypatch.setattr(durability, "kind_of", lambda _: "nfs4")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("/etc/passwd")
    assert sync_contents(tmp_path, [*names, "gone.csv", "gone/a.csv", "pipe.csv", "link.csv"]) is True
    assert sorted(synced) == sorted([*(Path(name).name for name in names), "pipe.csv"])


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
def test_a_disk_that_fails_on_one_of_many_files_has_each_synced_alone_so_that_only_that_one_is_held_up(
    tmp_path, names, monkeypatch, kind
):
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durability, "kind_of", lambda _: kind)
    monkeypatch.setattr(durability, "_libc_syncfs", lambda _: -1)
    monkeypatch.setattr(os, "fsync", failing)
    assert sync_contents(tmp_path, names) is False
