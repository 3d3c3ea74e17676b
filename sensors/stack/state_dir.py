"""Create the state folder, check that other users cannot change it, and lock it for one stack at a time."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from sensors.config.settings import Settings
from sensors.files.beneath import replace_text
from sensors.files.permissions import close_to_others, make_state_folder
from sensors.stack.errors import StackError


def hold_state_folder(settings: Settings, say: Callable[[str], object] = lambda _: None) -> FileLock:
    """Create the state folder and its subfolders, close them to other users, and return the acquired lock.

    The kernel releases the lock when the process dies for any reason. `say` gets notices for the user. Raises
    StackError if the folder cannot be used, if other users can change its content, or if another stack holds it.
    """
    _make_folders(settings)
    _close_to_others(settings, say)
    lock = FileLock(_lock_file(settings), mode=0o600)
    holder = _holder_file(settings)
    try:
        lock.acquire(timeout=0.3)  # `is_held` acquires it for a moment
        for file, text in (
            (holder, f"{os.getpid()}"),
            (_ports_file(settings), f"{settings.api_port} {settings.sensor_port}"),
        ):
            replace_text(file, f"{text}\n", mode=0o600)
    except Timeout:
        pid = holder.read_text("utf-8").strip() if holder.exists() else "unknown"
        raise StackError(f"already running on {settings.state_dir} (pid {pid}); see `just status`") from None
    except OSError as error:
        raise StackError(f"STATE_DIR: {settings.state_dir} cannot be written to: {error.strerror}") from error
    return lock


def clear_temporary(settings: Settings) -> None:
    """Create the folder for temporary files, emptied of an earlier start's files. Raises StackError."""
    folder = settings.temporary_dir
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StackError(f"STATE_DIR: {folder} cannot be emptied: {error.strerror}; remove it") from error


def other_ports(settings: Settings) -> str | None:
    """Return a text with the ports of the stack that holds the state folder, if they differ from the settings."""
    if not is_held(settings):
        return None
    wanted = (settings.api_port, settings.sensor_port)
    try:
        ports = tuple(map(int, _ports_file(settings).read_text("utf-8").split()))
    except (OSError, ValueError):
        return None
    if len(ports) != len(wanted) or ports == wanted:
        return None
    names = ("API_PORT", "SENSOR_PORT")
    different = [(name, port, asked) for name, port, asked in zip(names, ports, wanted, strict=True) if port != asked]
    return "runs on " + " and ".join(f"{name} {port}, you asked for {asked}" for name, port, asked in different)


def holder_of(settings: Settings) -> int | None:
    """Return the id of the last process that locked the folder; it still holds the lock if `is_held` is true."""
    try:
        return int(_holder_file(settings).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def is_held(settings: Settings) -> bool:
    """Return whether a stack holds the state folder."""
    try:
        with _lock_file(settings).open("rb") as file:
            # Shared, so that two commands that check at the same time do not take each other for a stack.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock_file(settings: Settings) -> Path:
    return settings.logs_dir / "up.lock"


def _holder_file(settings: Settings) -> Path:
    return settings.logs_dir / "up.pid"


def _ports_file(settings: Settings) -> Path:
    return settings.logs_dir / "up.ports"


def _make_folders(settings: Settings) -> None:
    folders = (settings.inbox_dir, settings.arrivals_dir, settings.prefect_home, settings.logs_dir)
    for folder in (settings.state_dir, *folders):
        try:
            make_state_folder(settings.state_dir)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"STATE_DIR: the folder {folder} cannot be made: {error.strerror}; set STATE_DIR to another one"
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StackError(f"STATE_DIR: {folder} is not writable; set STATE_DIR to another folder")


def _close_to_others(settings: Settings, say: Callable[[str], object]) -> None:
    try:
        found = close_to_others(settings.state_dir, settings.readers)
    except OSError as error:
        raise StackError(f"STATE_DIR: {error.filename} cannot be closed to other users: {error.strerror}") from error
    if found.dangers:
        raise StackError(*found.dangers)
    for notice in found.notices:
        say(notice)
