"""Routes for files: `PUT /inbox/NAME/FILE` uploads a file, `GET` on the same address returns its journey."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import fstat
from threading import BoundedSemaphore
from typing import Annotated, Any
from urllib.parse import quote

import anyio
from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sensors.access.accounts import Role
from sensors.access.log_ins import Action
from sensors.arrivals.failed_links import EscapedNames
from sensors.checks import CheckedFile, ProcessLimits, check_files, described, rules_of_inbox, table_of
from sensors.config.inboxes import Inbox
from sensors.files.beneath import READ, place_of, root_of
from sensors.ledger import Ledger
from sensors.reports.files import FileJourney, KnownFile, journey_of
from sensors.runtime.text import readable
from sensors.stack.errors import StackError
from sensors.web.auth import AskedBy, needs
from sensors.web.uploads import Upload, UploadError, Uploads, content_digest

MOST_UPLOADS = 32
"""How many uploads run at a time; further ones get 503 with Retry-After."""
COME_AGAIN = {"Retry-After": "1"}


class Uploaded(BaseModel):
    """The response to an upload."""

    inbox: str
    file: str
    bytes: int
    sha256: str


class Answer(BaseModel):
    """The response to a request that failed; `detail` is the reason."""

    detail: str


_STATUSES = (400, 404, 408, 409, 412, 413, 415, 422, 500, 502, 503, 507)
_RESPONSES = {status: {"model": Answer} for status in _STATUSES}


def upload_routes(uploads: Uploads, inboxes: Mapping[str, Inbox]) -> APIRouter:
    """Return the routes, which scripts and the page itself use."""
    router = APIRouter(tags=["files"])
    taking = anyio.CapacityLimiter(MOST_UPLOADS)

    @router.put(
        "/inbox/{inbox}/{file:path}",
        dependencies=[needs(Role.DROP)],
        status_code=201,
        responses={**_RESPONSES, 201: {"model": Uploaded}},
        openapi_extra={"requestBody": {"content": {"application/octet-stream": {}}, "required": False}},
    )
    async def upload(
        inbox: Annotated[str, Path(description="the inbox's name")],
        file: Annotated[str, Path(description="the name under which the file appears in the inbox")],
        request: Request,
        asker: AskedBy,
    ) -> JSONResponse:
        """Upload a file into an inbox; it appears there only when it is complete, and it replaces nothing.

        With `If-None-Match: *` a name that has come before is rejected; with `Content-Digest` (RFC 9530) the content is
        verified.
        """
        asked = Upload(_known(inboxes, inbox), file, _length(request), dict(request.headers))
        try:
            taking.acquire_on_behalf_of_nowait(request)
        except anyio.WouldBlock:
            raise HTTPException(503, f"{MOST_UPLOADS} uploads are under way; try again", COME_AGAIN) from None
        try:
            body = await uploads.take(asked, request.stream())
        except UploadError as error:
            asker.record(Action.UPLOAD_REJECTED, inbox=inbox, file=file, status=error.status)
            raise HTTPException(error.status, str(error)) from error
        finally:
            taking.release_on_behalf_of(request)
        asker.record(Action.UPLOAD, inbox=inbox, file=file, bytes=body.size, sha256=body.sha256.hex())
        uploaded = Uploaded(inbox=inbox, file=readable(file), bytes=body.size, sha256=body.sha256.hex())
        return JSONResponse(uploaded.model_dump(), 201, {"Content-Digest": content_digest(body.sha256)})

    @router.get("/inbox/{inbox}/{file:path}", dependencies=[needs(Role.LOOK)], responses={404: {"model": Answer}})
    def fate(inbox: str, file: str) -> FileJourney:
        """Return the journey of the latest file of that name."""
        _known(inboxes, inbox)
        with Ledger(uploads.ledger_path, read_only=True) as ledger:
            found = journey_of(ledger, file, inbox)
        if found is None:
            raise HTTPException(404, f"no file {readable(file)} has been seen in {inbox}")
        return found

    return router


def _known(inboxes: Mapping[str, Inbox], name: str) -> Inbox:
    if name not in inboxes:
        raise HTTPException(404, f"there is no inbox {readable(name)!r:.100}; there are: {', '.join(inboxes)}")
    return inboxes[name]


def _length(request: Request) -> int | None:
    length = request.headers.get("content-length")
    return int(length) if length is not None and length.isdecimal() else None


# Send a file's content as an attachment, so that a user can see what is wrong with it.

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


# Explain why a file was rejected: check it again, in a process with limits, and show the line at fault.

SECONDS = 30.0
LARGEST = 256 * 2**20
"""The largest file in bytes that the page checks; `just check` has no such limit."""
AT_ONCE = 2
"""How many checks run at a time; each uses a core."""
_WAIT_SECONDS = 20.0
_running = BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class ShownLine:
    """A line of a file or a part of it, in three pieces."""

    number: int
    before: str
    marked: str
    after: str
    is_at_fault: bool


@dataclass(frozen=True)
class FileExplanation:
    """The result of a check; unprintable characters in its texts are escaped."""

    table: str | None = None
    """The table that the file was checked against; None for a new one."""
    loads: bool = False
    rows: int = 0
    quarantined: int = 0
    """How many rows would be put aside."""
    reason: str = ""
    format: str = ""
    lines: tuple[ShownLine, ...] = ()
    columns: tuple[tuple[str, str, str], ...] = ()
    """Name, type in the file, and column of the table, for each column."""
    names: tuple[str, ...] = ()
    first_rows: tuple[tuple[str | None, ...], ...] = ()
    trouble: str = ""
    """Why the file could not be checked, or empty."""


def why(file: KnownFile, inboxes: Sequence[Inbox]) -> FileExplanation:
    """Check a file against the table of its inbox.

    Raises HTTPException: 404 if the file is gone, 503 if other checks do not end in time.
    """
    inbox = next((one for one in inboxes if one.name == file.inbox), None)
    with ExitStack() as held:
        descriptor = open_into(held, file)
        if (size := fstat(descriptor).st_size) > LARGEST:
            return FileExplanation(
                trouble=f"it has {size:,} bytes, and at most {LARGEST:,} are checked here; use `just check`"
            )
        name = file.name.rpartition("/")[2]
        asked = CheckedFile(f"/dev/fd/{descriptor}", name, name, rules=rules_of_inbox(inbox))
        try:
            table = table_of(inbox) if inbox else None
            with _turn():
                (found,) = check_files([asked], table, ProcessLimits(SECONDS, (descriptor,)))
        except StackError as error:
            return FileExplanation(trouble=readable("; ".join(error.lines)))
    return _shown(found, table or (inbox.table_of(name) if inbox else None))


@contextmanager
def _turn() -> Generator[None]:
    if not _running.acquire(timeout=_WAIT_SECONDS):
        raise HTTPException(503, "other files are being checked; try again in a minute", {"Retry-After": "60"})
    try:
        yield
    finally:
        _running.release()


def _shown(found: Mapping[str, Any], table: str | None) -> FileExplanation:
    return FileExplanation(
        table=table,
        loads=found["outcome"] == "loads",
        rows=found["rows"],
        quarantined=found["quarantined"],
        reason=readable(found["reason"] or ""),
        format=readable(described(found["format"])) if found["format"] else "",
        lines=tuple(_line(one) for one in found["excerpt"]),
        columns=tuple(_column(one) for one in found["columns"]),
        names=tuple(readable(one["name"]) for one in found["columns"])[: len(next(iter(found["first_rows"]), ()))],
        first_rows=tuple(
            tuple(None if value is None else readable(value) for value in row) for row in found["first_rows"]
        ),
    )


def _line(one: Mapping[str, Any]) -> ShownLine:
    before, marked, after = (readable(one[key].expandtabs(8)) for key in ("before", "marked", "after"))
    return ShownLine(one["number"], before, marked, after, one["is_at_fault"])


def _column(one: Mapping[str, Any]) -> tuple[str, str, str]:
    there = f"{one['table_name']} {one['table_type']}" if one["table_type"] else ""
    new = ", a new column" if one["is_new"] and there else ""
    return readable(one["name"]), readable(one["type"] or "no value shows it"), readable(f"{there}{new}")
