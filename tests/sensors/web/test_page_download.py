"""Downloads: however one ends, the page holds no descriptor of it afterwards."""

import os
import socket
import struct
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from sensors.ledger import Ledger
from tests.dropped_arrivals import record_arrival
from tests.served_page import AUTH, ServedPage, page_settings, served_page

CANCELLED = 400
CREDENTIALS = httpx.BasicAuth(*AUTH)._auth_header


@pytest.fixture
def page(tmp_path: Path) -> Generator[ServedPage]:
    with served_page(page_settings(tmp_path / "data")) as page:
        yield page


@pytest.fixture
def file(page: ServedPage, tmp_path: Path) -> Path:
    """A file of 8 MB: more than the kernel buffers of a connection hold."""
    with Ledger(page.settings.ledger_path) as ledger:
        record_arrival(ledger, "m-1", datetime(2026, 11, 24, tzinfo=UTC), {"large.csv": "failed"}, state="failed")
        ledger.change("UPDATE arrivals SET folder = ? WHERE id = 'm-1'", (str(tmp_path),))
    file = tmp_path / "large.csv"
    file.write_bytes(bytes(8 * 2**20))
    return file


def descriptors_of(file: Path) -> int:
    """Return how many descriptors of this process are open on the file, deleted or not."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(descriptor.readlink()).startswith(str(file))
    return found


def asked(page: ServedPage, method: str = "GET", headers: str = "") -> socket.socket:
    """Send the request for the file and return the connection, with nothing of the answer read."""
    connected = socket.create_connection(("127.0.0.1", page.port), 10)
    request = f"{method} /files/1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {CREDENTIALS}\r\n{headers}\r\n"
    connected.sendall(request.encode())
    return connected


def hang_up(connected: socket.socket) -> None:
    """Close a connection by a reset, as a browser does that is closed."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


def before_the_answer(page: ServedPage) -> None:
    hang_up(asked(page))


def after_the_request_was_read(page: ServedPage) -> None:
    connected = asked(page)
    time.sleep(0.002)
    hang_up(connected)


def in_the_middle(page: ServedPage) -> None:
    connected = asked(page)
    connected.recv(1000)
    hang_up(connected)


def without_reading_on(page: ServedPage) -> None:
    connected = asked(page)
    connected.recv(1000)
    connected.shutdown(socket.SHUT_RDWR)
    connected.close()


def of_its_head_alone(page: ServedPage) -> None:
    hang_up(asked(page, "HEAD"))


def of_a_part(page: ServedPage) -> None:
    hang_up(asked(page, headers="Range: bytes=0-9\r\n"))


@pytest.mark.parametrize(
    "cancelled",
    [
        before_the_answer,
        after_the_request_was_read,
        in_the_middle,
        without_reading_on,
        of_its_head_alone,
        of_a_part,
    ],
)
def test_400_cancelled_downloads_leave_no_descriptor_behind(
    page: ServedPage, file: Path, cancelled: Callable[[ServedPage], None]
):
    for _ in range(CANCELLED):
        cancelled(page)
    deadline = time.monotonic() + 30
    while (left := descriptors_of(file)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == 0
    with page.client() as client:
        assert client.get("/files/1").content == file.read_bytes()


def test_a_file_that_shrinks_during_its_download_ends_the_connection_and_leaves_no_descriptor(
    page: ServedPage, file: Path
):
    connected = asked(page)
    connected.recv(1000)
    os.truncate(file, 100)
    while connected.recv(2**20):
        pass
    connected.close()
    deadline = time.monotonic() + 10
    while (left := descriptors_of(file)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_in_the_place_of_the_file_is_not_found_and_leaves_no_descriptor(
    page: ServedPage, file: Path, make: Callable[[Path], None]
):
    file.unlink()
    make(file)
    with page.client() as client:
        answers = {client.get("/files/1").status_code for _ in range(20)}
    assert (answers, descriptors_of(file)) == ({404}, 0)


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /",
        "GET /stream",
        "GET /failed",
        "GET /api/arrivals",
        "GET /inbox/metrics/large.csv",
        "GET /static/page.css",
        "PUT /inbox/metrics/cut.csv",
        "POST /arrivals/m-1/retry",
        "POST /files/1/dismiss",
    ],
)
def test_a_request_that_is_cancelled_leaves_as_many_descriptors_as_there_were(
    page: ServedPage, file: Path, request_line: str
):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with page.client() as client:
        client.get("/")
    before = count()
    length = "Content-Length: 100000\r\n" if request_line.startswith("PUT") else ""
    for number in range(100):
        connected = socket.create_connection(("127.0.0.1", page.port), 10)
        head = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {CREDENTIALS}\r\n{length}\r\n"
        connected.sendall(head.encode() + bytes(100 if length else 0))
        if number % 2:
            connected.recv(20) if not length else time.sleep(0.01)
        hang_up(connected)
    deadline = time.monotonic() + 30
    while (left := count()) > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left <= before + 2  # an idle connection, and what the interpreter opens once
