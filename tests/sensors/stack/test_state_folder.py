"""Who holds the state folder."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sensors.config.settings import Settings
from sensors.stack.errors import StackError
from sensors.stack.state_dir import clear_temporary, hold_state_folder, is_held


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path / "state")


def test_the_folder_is_made_with_what_is_in_it(settings):
    with hold_state_folder(settings):
        for folder in (settings.inbox_dir, settings.arrivals_dir, settings.prefect_home, settings.logs_dir):
            assert folder.is_dir()


def test_a_second_stack_on_it_is_refused_with_the_id_of_its_holder(settings):
    with hold_state_folder(settings), pytest.raises(StackError) as refused:
        hold_state_folder(settings)
    assert refused.value.lines == (f"already running on {settings.state_dir} (pid {os.getpid()}); see `just status`",)


def test_two_commands_that_check_a_free_folder_at_the_same_time_both_find_it_free(settings):
    hold_state_folder(settings).release()
    both = threading.Barrier(2)

    def is_ever_held(_: int) -> bool:
        both.wait()
        return any(is_held(settings) for _ in range(2000))

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(is_ever_held, range(2))] == [False, False]
    with hold_state_folder(settings):
        assert is_held(settings)


def test_it_is_free_again_when_its_holder_was_killed(settings):
    code = (
        "import os, sys; from pathlib import Path; from sensors.config.settings import Settings;"
        "from sensors.stack.state_dir import hold_state_folder;"
        "lock = hold_state_folder(Settings(state_dir=Path(sys.argv[1]))); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, settings.state_dir], check=False)
    assert killed.returncode == -9
    hold_state_folder(settings).release()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"STATE_DIR: the folder .* cannot be made"):
        hold_state_folder(Settings(state_dir=tmp_path / "file" / "state"))


def test_a_folder_on_a_full_disk_is_reported(settings, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sensors.files.beneath.write_all", refuse)
    with pytest.raises(StackError, match=r"STATE_DIR: .* cannot be written to: No space left on device"):
        hold_state_folder(settings)


def test_what_an_earlier_start_left_of_temporary_files_is_removed_and_nothing_else(settings, tmp_path):
    kept = tmp_path / "kept.txt"
    kept.touch()
    settings.state_dir.mkdir()
    clear_temporary(settings)
    (settings.temporary_dir / "folder").mkdir()
    (settings.temporary_dir / "folder" / "link").symlink_to(tmp_path)
    clear_temporary(settings)
    assert list(settings.temporary_dir.iterdir()) == []
    assert kept.exists()
    assert settings.temporary_dir.stat().st_mode & 0o077 == 0
