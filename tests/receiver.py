"""A real HTTP server on the loopback: it takes alerts, serves prepared pages, and answers as it is told."""

import base64
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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

    def told(self, text: str) -> list[tuple[float, str]]:
        """Return the messages in which a text stands and that were answered with success, each after its time."""
        posts = list(zip(self.times, self.posts, self.answers, strict=False))
        return [(at, body["message"]) for at, (_, body), status in posts if status == 200 and text in body["message"]]

    def answer_to(self, authorization: str | None) -> int:
        """Return the status that a post gets."""
        if self.password is None:
            return self.status
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


@contextmanager
def receiving() -> Generator[Receiver, None, None]:
    """Run a receiver for the length of a block."""
    receiver = Receiver()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.answer_to(self.headers["Authorization"])
            with lock:
                receiver.posts.append((self.path, json.loads(body)))
                receiver.times.append(time.monotonic())
                receiver.answers.append(status)
            time.sleep(receiver.pause_seconds)
            self.answer(status, "text/plain", b"")

        def do_GET(self) -> None:
            if self.path in receiver.held:
                receiver.held[self.path].wait()
            if self.path in receiver.pages:
                self.answer(200, *receiver.pages[self.path])
            else:
                self.answer(404, "text/plain", b"")

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # whoever asked may have been killed
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
