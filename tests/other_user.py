"""Another user of the machine: a child process without any of our rights, which only root can start."""

import os
import pickle
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

NOBODY = 65534
"""The user and the group that own nothing, on every Linux."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_user(look: Callable[[], T], uid: int = NOBODY, *groups: int, may_return: bool = False) -> T:
    """Call a function in a child process of another user and return what it returns; raises what it raises.

    With `may_return` it can become root again by `os.seteuid(0)`; until then it has no right that the user has not.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as answer:
                answer.write(_answer(look, uid, groups, may_return))
        finally:
            os._exit(0)  # nothing of the tests goes on in the child
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    found, error = pickle.loads(content)  # our own child's
    if error is not None:
        raise error
    return found


def _answer(look: Callable[[], object], uid: int, groups: tuple[int, ...], may_return: bool) -> bytes:
    try:
        os.setgroups(groups)
        (os.setegid if may_return else os.setgid)(uid)
        (os.seteuid if may_return else os.setuid)(uid)
        return pickle.dumps((look(), None))
    except BaseException as error:  # noqa: BLE001 # the parent raises it
        return pickle.dumps((None, error))


def may_open(path: Path, flags: int = os.O_RDONLY, uid: int = NOBODY, *groups: int) -> bool:
    """Return whether another user can open a file."""

    def try_it() -> bool:
        try:
            os.close(os.open(path, flags))
        except PermissionError:
            return False
        return True

    return as_user(try_it, uid, *groups)


@contextmanager
def reachable_folder() -> Generator[Path, None, None]:
    """Give a folder that every user reaches: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
