"""What a scan finds."""

import os
from pathlib import Path

import pytest

from sensors.inbox.pending_files import scan


def names(inbox: Path, *, subfolders: bool = False) -> list[str]:
    return sorted(entry.name for entry in scan(inbox, lambda *_: None, subfolders=subfolders))


@pytest.fixture
def inbox(tmp_path):
    made = tmp_path / "inbox"
    for name in ("a.csv", "north/b.csv", "north/deep/c.csv", ".hidden/d.csv"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    return made


def test_without_subfolders_a_folder_is_an_entry_like_any_other(inbox):
    assert names(inbox) == [".hidden", "a.csv", "north"]


def test_with_subfolders_files_are_named_by_their_path_and_hidden_folders_are_passed_over(inbox):
    assert names(inbox, subfolders=True) == ["a.csv", "north/b.csv", "north/deep/c.csv"]


def test_a_symlink_to_a_folder_is_not_followed(inbox, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.csv").write_text("secret")
    (inbox / "link").symlink_to(tmp_path / "outside")
    assert "link" in names(inbox, subfolders=True)
    assert not any("secret" in name for name in names(inbox, subfolders=True))


def test_each_folder_is_covered_before_it_is_listed(inbox):
    covered: list[str] = []
    found = scan(inbox, lambda folder, _: covered.append(folder), subfolders=True)
    next(found)
    assert covered == [""]
    list(found)
    assert covered == ["", "north", "north/deep"]


def test_an_inbox_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        names(tmp_path / "nowhere")


def test_a_subfolder_that_cannot_be_read_hides_no_other_and_is_reported(inbox, monkeypatch):
    opened = os.open

    def refuse(path, flags, *args, **kwargs):  # as root no permission can refuse it, so the refusal is played
        if path == "north":
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *args, **kwargs)

    (inbox / "south").mkdir()
    (inbox / "south" / "e.csv").write_text("e")
    monkeypatch.setattr(os, "open", refuse)
    found: list[str] = []

    def collect() -> None:
        found.extend(entry.name for entry in scan(inbox, lambda *_: None, subfolders=True))

    with pytest.raises(PermissionError, match="north"):
        collect()
    assert sorted(found) == ["a.csv", "south/e.csv"]


def test_no_descriptor_is_left_open(inbox):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    before = sum(1 for _ in descriptors.iterdir())
    for _ in range(50):
        names(inbox, subfolders=True)
    assert sum(1 for _ in descriptors.iterdir()) == before
