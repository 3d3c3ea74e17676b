"""Renaming without ever replacing another file."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sensors.files import durability
from sensors.files.durability import rename_without_replacing


def test_of_two_renames_to_one_name_exactly_one_wins(tmp_path):
    target = tmp_path / "target"
    sources = [tmp_path / f"source{n}" for n in range(8)]
    for source in sources:
        source.write_text(source.name)

    def won(source):
        try:
            rename_without_replacing(source, target)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(won, sources))
    assert outcomes.count(True) == 1
    assert target.read_text() == sources[outcomes.index(True)].name


def test_without_renameat2_nothing_is_replaced_either(monkeypatch, tmp_path):
    monkeypatch.setattr(durability.sys, "platform", "somewhere else")
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    new.write_text("new")
    with pytest.raises(FileExistsError):
        rename_without_replacing(old, new)
    assert new.read_text() == "new"
    new.unlink()
    rename_without_replacing(old, new)
    assert (old.exists(), new.read_text()) == (False, "old")
