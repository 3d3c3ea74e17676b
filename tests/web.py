"""A real HTTP server on loopback that serves what a test gives it and remembers what it was asked."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One answer; a path may also have a function of how often it was asked for, counted from 1."""

    body: bytes = b""
    content_type: str | None = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: bool = False
    """Whether the connection breaks in the middle of the body."""


@dataclass
class Web:
    """What a server serves, by path and query, or by path alone."""

    port: int = 0
    answers: dict[str, Answer | Callable[[int], Answer]] = field(default_factory=dict[str, Any])
    requests: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """Path and Authorization header of each request."""

    def url(self, path: str, user: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{user}{host}:{self.port}{path}"

    def answer(self, path: str) -> Answer:
        found = self.answers.get(path) or self.answers.get(path.partition("?")[0], Answer(status=404))
        return found if isinstance(found, Answer) else found(sum(asked == path for asked, _ in self.requests))


@contextmanager
def serving(port: int = 0) -> Generator[Web, None, None]:
    """Serve for the length of a block, on a port of its own choice if none is given."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.requests.append((self.path, self.headers.get("Authorization")))
            answer = web.answer(self.path)
            self.send_response(answer.status)
            if answer.content_type:
                self.send_header("Content-Type", answer.content_type)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body) + 100 * answer.cut))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
