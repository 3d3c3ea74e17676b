"""The state folder: made, checked, and held by one stack at a time."""

import os

from filelock import FileLock, Timeout

from sensors.settings import Settings
from sensors.stack.errors import StackError


def hold_state_folder(settings: Settings) -> FileLock:
    """Make the state folder with what is in it and take it for ourselves; return the lock.

    The kernel gives it back when we die, however we die. Raises StackError when the folder cannot be used or
    another stack has it.
    """
    _make_folders(settings)
    lock = FileLock(settings.logs_dir / "up.lock")
    holder = settings.logs_dir / "up.pid"
    try:
        lock.acquire(timeout=0)
        holder.write_text(f"{os.getpid()}\n", "utf-8")
    except Timeout:
        pid = holder.read_text("utf-8").strip() if holder.exists() else "unknown"
        raise StackError(f"already running on {settings.state_dir} (pid {pid}); see `just status`") from None
    except OSError as error:
        raise StackError(f"STATE_DIR: {settings.state_dir} cannot be written to: {error.strerror}") from error
    return lock


def _make_folders(settings: Settings) -> None:
    folders = (settings.inbox_dir, settings.arrivals_dir, settings.prefect_home, settings.logs_dir)
    for folder in (settings.state_dir, *folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"STATE_DIR: the folder {folder} cannot be made: {error.strerror}; set STATE_DIR to another one"
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StackError(f"STATE_DIR: {folder} is not writable; set STATE_DIR to another folder")
