"""The spool is there while a run needs it, and gone afterwards."""

import os
import time
from pathlib import Path

import pytest

from flows.sources.spool import spool_folder


def test_a_runs_folder_is_removed_at_the_end_also_when_the_run_fails(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), spool_folder(tmp_path / "spool", "run") as folder:  # noqa: PT012
        (folder / "body").write_text("x")
        _ = 1 / 0
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_killed_run_left_long_ago_is_removed_and_what_is_in_use_is_not(tmp_path: Path):
    for name, age in (("old", 8 * 24 * 3600), ("recent", 3600)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "body").write_text("x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with spool_folder(tmp_path, "run"):
        assert sorted(folder.name for folder in tmp_path.iterdir()) == ["recent", "run"]
