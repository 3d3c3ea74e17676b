"""Routes for files: `PUT /inbox/NAME/FILE` uploads a file, `GET` on the same address returns its journey."""

from collections.abc import Mapping
from typing import Annotated

import anyio
from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from sensors.access.accounts import Role
from sensors.access.audit import Action
from sensors.config.admission import readable
from sensors.config.inboxes import Inbox
from sensors.ledger import Ledger
from sensors.reports.files import FileJourney, journey_of
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
