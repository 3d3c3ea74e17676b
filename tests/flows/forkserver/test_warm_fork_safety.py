"""What is found that would be half missing after a fork."""

import asyncio
import socket
import sys
import threading
from types import ModuleType

import pytest

from flows.forkserver.preload import open_descriptors, unsafe_to_fork


@pytest.fixture
def inherited():
    return open_descriptors()


def test_a_thread_is_named(inherited):
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="prefetcher")
    thread.start()
    try:
        assert "the thread prefetcher" in unsafe_to_fork(inherited)
    finally:
        done.set()
        thread.join()
    assert "the thread prefetcher" not in unsafe_to_fork(inherited)


def test_a_socket_is_named_with_its_descriptor(inherited):
    with socket.socket() as opened:
        assert any(f"descriptor {opened.fileno()} of socket:" in one for one in unsafe_to_fork(inherited))
        assert not any(one.startswith("the descriptor") for one in unsafe_to_fork(open_descriptors()))


def test_a_file_that_is_open_is_named_with_its_path(inherited, tmp_path):
    with (tmp_path / "index.db").open("w"):
        assert any(str(tmp_path / "index.db") in one for one in unsafe_to_fork(inherited))


def test_an_event_loop_is_named(inherited):
    loop = asyncio.new_event_loop()
    try:
        assert any("event loop" in one for one in unsafe_to_fork(inherited))
    finally:
        loop.close()


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_of_a_module_is_named_while_it_is_held(inherited, monkeypatch, kind):
    module = ModuleType("locking")
    module.__dict__["guard"] = guard = kind()
    monkeypatch.setitem(sys.modules, "locking", module)
    with guard:
        assert "the held lock locking.guard" in unsafe_to_fork(inherited)
    assert "the held lock locking.guard" not in unsafe_to_fork(inherited)
