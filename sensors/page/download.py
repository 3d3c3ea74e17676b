"""Download: a file's bytes for somebody who wants to see what is wrong with it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from fastapi import HTTPException
from starlette.responses import StreamingResponse

from sensors.overview.known_file import KnownFile

CHUNK_BYTES = 1 << 18


def download(file: KnownFile) -> StreamingResponse:
    """Return a file as an attachment, which no browser shows or runs; raises HTTPException (404)."""
    descriptor = _opened(file.lies)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise HTTPException(404, "it is no regular file any more")
    name = file.name.rpartition("/")[2].encode("utf-8", "backslashreplace")
    return StreamingResponse(
        _chunks(descriptor, status.st_size),
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "Content-Length": str(status.st_size),
        },
    )


def _opened(path: Path) -> int:
    try:
        # What replaced it meanwhile may be a link to anything, or a pipe that nobody writes into.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise HTTPException(404, f"it is not there any more ({error.strerror})") from error


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield as much as was promised; a file that shrinks meanwhile ends the connection."""
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        left = size
        while left and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
