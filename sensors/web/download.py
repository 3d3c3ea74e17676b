"""Download: a file's bytes for somebody who wants to see what is wrong with it."""

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
    """Return a file as an attachment, which no browser shows or runs; HTTPException (404) is raised as it is sent."""
    return _Download(file)


class _Download(StreamingResponse):
    """Opens the file when it is sent and closes it however that ends: sent, cut off, cancelled, or never begun.

    A generator that closes what it was given does so only if it was begun: a client that hangs up before that left the
    descriptor open.
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
        """Send the file; raises HTTPException (404) if it is not there any more."""
        with ExitStack() as held:
            # The thread itself hands over what it has opened: a request that is cancelled meanwhile gets no result.
            descriptor = await run_in_threadpool(open_into, held, self._file)
            size = os.fstat(descriptor).st_size
            self.headers["Content-Length"] = str(size)
            self.body_iterator = iterate_in_threadpool(_chunks(descriptor, size))
            await super().__call__(scope, receive, send)


def open_into(held: ExitStack, file: KnownFile) -> int:
    """Open a file, following no link, and have `held` close it. Raises HTTPException (404) if it is not there."""
    descriptor = _opened(file)
    held.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise HTTPException(404, "it is no regular file any more")
    if file.arrival_id is None and status.st_ino != file.inode:
        raise HTTPException(404, "it is not there any more; another file has its name now")
    return descriptor


def _opened(file: KnownFile) -> int:
    """Open a file in its inbox or arrival; its owner may have put a link or a FIFO in its place, or in its folder's."""
    root, name = root_of(file.lies, file.name), file.name
    if file.arrival_id is None and "\\" in name:
        name = EscapedNames(root).find(name, file.inode) or name
    try:
        with place_of(root, name) as place:
            return os.open(place.name, READ, dir_fd=place.folder)
    except OSError as error:
        raise HTTPException(404, f"it is not there any more ({error.strerror})") from error


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield as much as was promised; a file that shrinks meanwhile ends the connection."""
    left = size
    while left and (chunk := os.read(descriptor, min(CHUNK_BYTES, left))):
        left -= len(chunk)
        yield chunk
