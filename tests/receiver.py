"""A real HTTP server on the loopback: it takes alerts, serves prepared pages, and answers as it is told."""

import base64
import json
import socket
import struct
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body, read as UTF-8."""
        return self.body.decode()


@dataclass
class Receiver:
    """What arrived at the server, one path and JSON body per POST, and how it answers."""

    port: int = 0
    status: int = 200
    pause_seconds: float = 0.0
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])
    """Content type and body of what a GET of a path is answered with."""
    password: str | None = None
    """What basic authentication has to bring along, if anything."""
    answers: list[int] = field(default_factory=list[int])
    """The status that each of the posts was answered with."""
    times: list[float] = field(default_factory=list[float])
    """When each of the posts came, in seconds of the monotonic clock."""
    requests: list[Received] = field(default_factory=list[Received])
    """Every request that is no GET of a page, whatever its format."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """What each answer to a post has besides."""
    body: bytes = b""
    """What each post is answered with."""
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    """The status for a path, where it is another one."""
    resets: bool = False
    """Whether a post is read, and its connection reset without an answer."""
    drips: bool = False
    """Whether the body of an answer never ends."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    held: dict[str, threading.Event] = field(default_factory=dict[str, threading.Event])

    def url(self, path: str = "alerts", user: str = "") -> str:
        """Return an Apprise URL that leads here."""
        return f"json://{user}127.0.0.1:{self.port}/{path}"

    def page(self, path: str) -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.port}{path}"

    def naming(self, text: str) -> list[dict[str, Any]]:
        """Return the alerts in which a text stands."""
        return [body for _, body in list(self.posts) if text in json.dumps(body)]

    def taken(self) -> list[dict[str, Any]]:
        """Return the alerts that were answered with success."""
        posts = list(self.posts)[: len(self.answers)]
        return [body for (_, body), status in zip(posts, self.answers, strict=False) if status == HTTPStatus.OK]

    def reported(self, text: str) -> list[tuple[float, str]]:
        """Return the messages in which a text stands and that were answered with success, each after its time."""
        posts = list(zip(self.times, self.posts, self.answers, strict=False))
        return [(at, body["message"]) for at, (_, body), status in posts if status == 200 and text in body["message"]]

    def answer_to(self, authorization: str | None, path: str = "") -> int:
        """Return the status that a post gets."""
        if self.password is None:
            return self.statuses.get(path, self.status)
        given = base64.b64decode((authorization or "").removeprefix("Basic ")).decode().partition(":")[2]
        return self.status if given == self.password else HTTPStatus.UNAUTHORIZED

    @contextmanager
    def holding(self, path: str) -> Generator[str, None, None]:
        """Let whoever asks for a path wait for the answer as long as the block lasts; give its address."""
        released = self.held[path] = threading.Event()
        try:
            yield self.page(path)
        finally:
            released.set()


def _read(body: bytes) -> Any:
    """Return what a body says in JSON, of an alert an object and of events a list; nothing for another format."""
    try:
        return json.loads(body)
    except ValueError:
        return {}


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        status = self.receiver.answer_to(self.headers["Authorization"], self.path)
        with self.receiver.lock:
            self.receiver.requests.append(Received(self.command, self.path, dict(self.headers.items()), body))
            self.receiver.posts.append((self.path, _read(body)))
            self.receiver.times.append(time.monotonic())
            self.receiver.answers.append(status)
        time.sleep(self.receiver.pause_seconds)
        if self.receiver.resets:
            # With a linger of no seconds the kernel sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.answer(status, "text/plain", self.receiver.body, self.receiver.headers)

    do_PUT = do_POST  # noqa: N815 - the name is the base class's

    def do_GET(self) -> None:
        if self.path not in self.receiver.pages:
            with self.receiver.lock:
                self.receiver.requests.append(Received("GET", self.path, dict(self.headers.items()), b""))
        if self.path in self.receiver.held:
            self.receiver.held[self.path].wait()
        if self.path in self.receiver.pages:
            self.answer(200, *self.receiver.pages[self.path])
        else:
            self.answer(404, "text/plain", b"")

    def answer(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        with suppress(ConnectionError):  # the client may have been killed
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(10**9 if self.receiver.drips else len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            while self.receiver.drips:
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


@contextmanager
def receiving() -> Generator[Receiver, None, None]:
    """Run a receiver for the length of a block."""
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": receiver}))
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
