"""Send a file's content as an attachment, so that a user can see what is wrong with it."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

from fastapi import HTTPException
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sensors.arrivals.failed_links import EscapedNames
from sensors.files.beneath import READ, place_of, root_of
from sensors.reports.files import KnownFile

CHUNK_BYTES = 1 << 18


def download(file: KnownFile) -> StreamingResponse:
    """Return a file as an attachment, which no browser displays or runs.

    HTTPException (404) is raised when the response is sent.
    """
    return _Download(file)


class _Download(StreamingResponse):
    """Opens the file when the response is sent and closes it however that ends: sent, cut off, cancelled or not begun.

    A generator that closes the file on its end would not do: if a client hangs up before the generator has begun, the
    descriptor stays open.
    """

    def __init__(self, file: KnownFile) -> None:
        name = file.name.rpartition("/")[2].encode("utf-8", "backslashreplace")
        super().__init__(
            (),
            media_type="application/octet-stream",
            headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"},
        )
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file. Raises HTTPException (404) if it is gone."""
        with ExitStack() as held:
            # The thread itself registers the descriptor: a request that is cancelled meanwhile never gets its result.
            descriptor = await run_in_threadpool(open_into, held, self._file)
            size = os.fstat(descriptor).st_size
            self.headers["Content-Length"] = str(size)
            self.body_iterator = iterate_in_threadpool(_chunks(descriptor, size))
            await super().__call__(scope, receive, send)


def open_into(held: ExitStack, file: KnownFile) -> int:
    """Open a file without following links, and register it with `held`. Raises HTTPException (404) if it is gone."""
    descriptor = _opened(file)
    held.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise HTTPException(404, "it is no regular file any more")
    if file.arrival_id is None and status.st_ino != file.inode:
        raise HTTPException(404, "it is not there any more; another file has its name now")
    return descriptor


def _opened(file: KnownFile) -> int:
    """Open a file in its inbox or arrival; its owner may have replaced it or its folder by a link or a FIFO."""
    root, name = root_of(file.location, file.name), file.name
    if file.arrival_id is None and "\\" in name:
        name = EscapedNames(root).find(name, file.inode) or name
    try:
        with place_of(root, name) as place:
            return os.open(place.name, READ, dir_fd=place.folder)
    except OSError as error:
        raise HTTPException(404, f"it is not there any more ({error.strerror})") from error


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield `size` bytes, the announced Content-Length; if the file shrinks meanwhile, the connection is closed."""
    left = size
    while left and (chunk := os.read(descriptor, min(CHUNK_BYTES, left))):
        left -= len(chunk)
        yield chunk
