"""Content-Digest: a client says what it sends, and we look whether it came so (RFC 9530)."""

import asyncio
import base64
import binascii
import errno
import hashlib
import hmac
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from sensors.config.admission import Admission, admit, readable
from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.files.beneath import place_of, remove_beneath, remove_tree, write_all
from sensors.files.rename import rename_without_replacing
from sensors.inbox.scan import scan
from sensors.ledger import Ledger
from sensors.stack.drop import upload as upload_to_store
from sensors.stack.errors import StackError

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
"""The two that RFC 9530 calls active, with hashlib's names for them."""
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?")


class DigestError(ValueError):
    """The header cannot be read; the message says what was expected."""


def expected_digests(header: str | None) -> dict[str, bytes]:
    """Return the digests that a Content-Digest header promises, by hashlib's names; raises DigestError.

    Algorithms that we do not know are left aside, as the RFC has it.

    >>> expected_digests("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:").keys()
    dict_keys(['sha256'])
    """
    found: dict[str, bytes] = {}
    for member in filter(str.strip, (header or "").split(",")):
        matched = _MEMBER.fullmatch(member)
        if matched is None:
            raise DigestError(f"Content-Digest: expected sha-256=:<base64>:, got {member.strip()!r:.100}")
        name, encoded = matched.groups()
        if name in ALGORITHMS:
            found[ALGORITHMS[name]] = _decoded(encoded)
    return found


def content_digest(sha256: bytes) -> str:
    """Return the header for what has come."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DigestError(f"Content-Digest: expected base64 between colons, got {encoded!r:.100}") from error


# Receiving: a request's body becomes a file under a hidden name, however slowly or falsely it comes.

WRITE_BYTES = 1 << 20
"""How much is gathered before it is written: a thread's turn costs as much as 100 kB."""


class ReceivingError(Exception):
    """The body did not come as it should; `status` is that of the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Patience:
    """How slow a client may be, in seconds and bytes a second."""

    silence_seconds: float = 30.0
    """Without a byte for so long it is given up."""
    grace_seconds: float = 60.0
    """After that it must have come at `least_rate` on the average."""
    least_rate: float = 1024.0

    def is_over(self, size: int, seconds: float) -> bool:
        """Tell whether a client that has sent so much in so long is too slow."""
        return seconds > self.grace_seconds and size < seconds * self.least_rate


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, part: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


@dataclass
class Body:
    """What has come so far."""

    size: int = 0
    digests: dict[str, Digest] = field(default_factory=dict[str, Digest])

    @property
    def sha256(self) -> bytes:
        """The digest of all of it."""
        return self.digests["sha256"].digest()


async def receive(
    chunks: AsyncIterator[bytes],
    root: Path,
    partial: str,
    most: int,
    expected: Mapping[str, bytes],
    patience: Patience,
) -> Body:
    """Write a body to a new file, which is on the disk when this returns; without success there is no file.

    `partial` is the file's path below `root`, `most` is in bytes, `expected` holds digests by hashlib's names. Raises
    ReceivingError, OSError.
    """
    body = Body(digests={name: hashlib.new(name) for name in {"sha256", *expected}})
    try:
        # Not in a thread: what that has opened would be nobody's if the request is cancelled meanwhile.
        with _created(root, partial) as file:
            await _write_all(chunks, file, body, most, patience)
            _check(body, expected)
            await run_in_threadpool(os.fsync, file.fileno())
    except BaseException:
        remove_beneath(root, partial)  # no await: the task may have been cancelled
        raise
    return body


def _created(root: Path, partial: str) -> FileIO:
    with place_of(root, partial) as place:
        return place.create()


async def _write_all(chunks: AsyncIterator[bytes], file: FileIO, body: Body, most: int, patience: Patience) -> None:
    gathered = bytearray()
    async for chunk in _patiently(chunks, body, patience):
        body.size += len(chunk)
        if body.size > most:
            raise ReceivingError(413, f"more than {most:,} bytes were sent")
        gathered += chunk
        if len(gathered) >= WRITE_BYTES:
            await run_in_threadpool(_write, file, bytes(gathered), body)
            gathered.clear()
    await run_in_threadpool(_write, file, bytes(gathered), body)


async def _patiently(chunks: AsyncIterator[bytes], body: Body, patience: Patience) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    begun = clock()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks), patience.silence_seconds)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ReceivingError(408, f"nothing came for {patience.silence_seconds:g} seconds") from None
        yield chunk
        if patience.is_over(body.size, clock() - begun):
            raise ReceivingError(408, f"less than {patience.least_rate:g} bytes a second came")


def _write(file: FileIO, part: bytes, body: Body) -> None:
    write_all(file, part)
    for digest in body.digests.values():
        digest.update(part)


def _check(body: Body, expected: Mapping[str, bytes]) -> None:
    for name, digest in expected.items():
        if not hmac.compare_digest(body.digests[name].digest(), digest):
            raise ReceivingError(400, f"Content-Digest: the {name} of the {body.size:,} bytes that came is another one")


# An upload: whether a file may come in under a name, and how it appears in its inbox whole.

PARTIAL = ".uploading"
"""The end of the hidden name under which an upload grows."""
FORGOTTEN_SECONDS = 86_400.0
"""After so long without a change it is what a sensor that was killed has left."""


class UploadError(Exception):
    """A file does not come in; `status` is that of the answer, the message is for a person."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """What a client asks for; `size` is the length that it announces, None if it does not."""

    inbox: Inbox
    name: str
    size: int | None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Uploads:
    """Takes uploads in; one of it serves all inboxes."""

    ledger_path: Path
    spool: Path
    """A folder for what goes on to a remote inbox."""
    max_bytes: int
    patience: Patience = field(default_factory=Patience)

    async def take(self, upload: Upload, chunks: AsyncIterator[bytes]) -> Body:
        """Receive a file and let it appear in its inbox; raises UploadError, and then nothing is there."""
        expected = _expected(upload)
        await run_in_threadpool(self._check, upload)
        root, above = self._root(upload), upload.name.rpartition("/")[0]
        plain = f".{secrets.token_hex(8)}{PARTIAL}"
        partial = f"{above}/{plain}" if above and not upload.inbox.url else plain
        most = largest_upload(upload.inbox, self.max_bytes)
        try:
            await run_in_threadpool(_make_room, root, partial, upload.size or 0)
            body = await receive(chunks, root, partial, most, expected, self.patience)
            await run_in_threadpool(_place, root, partial, upload)
        except ReceivingError as error:
            raise UploadError(error.status, f"{readable(upload.name)}: {error}") from error
        except OSError as error:
            raise _failure(error, upload) from error
        return body

    def _root(self, upload: Upload) -> Path:
        return self.spool if upload.inbox.url else upload.inbox.path

    def _check(self, upload: Upload) -> None:
        check_name(upload.name, upload.inbox)
        _check_ruling(upload, largest_upload(upload.inbox, self.max_bytes))
        _check_headers(upload)
        lies_there = not upload.inbox.url and _exists(upload)
        only_once = upload.headers.get("if-none-match", "").strip() == "*"
        if only_once and (lies_there or self._was_seen(upload)):
            raise UploadError(412, f"{readable(upload.name)} has come to {upload.inbox.name} before")
        if lies_there:
            raise _taken(upload)

    def _was_seen(self, upload: Upload) -> bool:
        """Tell whether a file of that name has been seen in the inbox."""
        with Ledger(self.ledger_path, read_only=True) as ledger:
            seen = "SELECT 1 FROM files WHERE name = ? AND inbox = ? AND state <> 'withdrawn' LIMIT 1"
            return bool(ledger.rows(seen, (upload.name, upload.inbox.name)))


def largest_upload(inbox: Inbox, max_bytes: int) -> int:
    """Return how many bytes a file may have that is uploaded into an inbox, where no upload may have more."""
    return min(inbox.max_file_bytes, max_bytes)


def check_name(name: str, inbox: Inbox) -> None:
    """Raise UploadError for a name that leads anywhere but into the inbox."""
    parts = name.split("/")
    if "\ufffd" in name:  # the server puts it in the place of what is no UTF-8
        raise UploadError(400, "the name is not UTF-8; rename the file")
    if not name or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise UploadError(400, f"expected the name of a file, got {readable(name)!r:.200}")
    if len(parts) > 1 and not inbox.subfolders:
        raise UploadError(400, f"inbox {inbox.name!r} takes no subfolders; upload {readable(parts[-1])} itself")
    if any(part.startswith(".") for part in parts[:-1]):
        raise UploadError(422, "hidden folders are left alone; use another name")


def _check_ruling(upload: Upload, most: int) -> None:
    """Refuse at the door what the sensor would refuse or leave alone."""
    name, inbox = upload.name, upload.inbox
    if upload.size is not None and upload.size > most:
        raise UploadError(413, f"{readable(name)} has {upload.size:,} bytes, at most {most:,} are taken here")
    if inbox.done_file and name.endswith(inbox.done_file):
        name = name.removesuffix(inbox.done_file)
    mode = stat.S_IFREG | 0o600
    ruling = admit(name, os.stat_result((mode, 0, 0, 1, 0, 0, upload.size or 0, 0, 0, 0)), inbox)
    if ruling.admission is not Admission.ADMITTED:
        raise UploadError(422, f"{readable(upload.name)} is not taken: {ruling.reason}")


def _check_headers(upload: Upload) -> None:
    if upload.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UploadError(415, "expected a file as it is, got Content-Encoding; upload orders.csv.gz instead")
    if "content-range" in upload.headers:  # RFC 9110, 14.4
        raise UploadError(400, "expected a whole file, got a part of one (Content-Range)")
    if "if-match" in upload.headers:
        raise UploadError(412, "nothing is ever overwritten, so no If-Match holds; leave it out")


def _expected(upload: Upload) -> dict[str, bytes]:
    try:
        return expected_digests(upload.headers.get("content-digest"))
    except DigestError as error:
        raise UploadError(400, str(error)) from error


def _exists(upload: Upload) -> bool:
    """Tell whether the inbox has something of that name. Raises UploadError where a link is in the way."""
    try:
        with place_of(upload.inbox.path, upload.name) as place:
            return place.exists()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failure(error, upload) from error


def _make_room(root: Path, partial: str, size: int) -> None:
    with place_of(root, partial, make=True) as place:
        if shutil.disk_usage(place.folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _place(root: Path, partial: str, upload: Upload) -> None:
    try:
        if upload.inbox.url:
            _send_on(root, partial, upload)
            return
        with place_of(root, partial) as place:
            name = upload.name.rpartition("/")[2]
            rename_without_replacing(place.name, name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
            place.sync_folder()  # the new name outlives a power cut before the client reads that the file is there
    except FileExistsError as error:
        raise _taken(upload) from error
    except StackError as error:
        raise UploadError(502, "; ".join(error.lines)) from error
    finally:
        remove_beneath(root, partial)


def _send_on(spool: Path, partial: str, upload: Upload) -> None:
    """Upload what has come to a remote inbox; the spool is a folder of ours."""
    named = spool / f"{partial}.d" / Path(upload.name).name
    named.parent.mkdir(0o700)
    try:
        (spool / partial).rename(named)
        upload_to_store(named, upload.inbox)
    finally:
        shutil.rmtree(named.parent)


def _taken(upload: Upload) -> UploadError:
    return UploadError(
        409,
        f"{readable(upload.name)} is in {upload.inbox.name} already and has not been taken yet; "
        "wait for that, or use another name",
    )


def _failure(error: OSError, upload: Upload) -> UploadError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UploadError(507, f"there is no room for {readable(upload.name)} on the disk of {upload.inbox.name}")
    if error.errno in {errno.ELOOP, errno.ENOTDIR} and upload.inbox.path.is_dir():
        return UploadError(400, "a symbolic link or a file is in the way of that name; use another one")
    return UploadError(500, f"{readable(upload.name)} cannot be written: {error.strerror or type(error).__name__}")


def clear_forgotten(settings: Settings, inboxes: Iterable[Inbox]) -> None:
    """Remove what uploads that a kill cut short have left; raises OSError."""
    for partial in _spool(settings).glob(f".*{PARTIAL}*"):
        if _is_forgotten(partial.lstat()):
            with place_of(partial.parent, partial.name) as place:
                remove_tree(place.folder, place.name)
    for inbox in inboxes:
        if not inbox.url:
            _clear_inbox(inbox)


def _clear_inbox(inbox: Inbox) -> None:
    """Remove forgotten uploads from an inbox: regular files, whatever else has such a name."""
    for entry in list(scan(inbox.path, _pass_by, subfolders=inbox.subfolders)):
        plain = entry.name.rpartition("/")[2]
        is_ours = plain.startswith(".") and plain.endswith(PARTIAL) and stat.S_ISREG(entry.status.st_mode)
        if is_ours and _is_forgotten(entry.status):
            remove_beneath(inbox.path, entry.name)


def _pass_by(folder: str, status: os.stat_result) -> None:
    """Listen to no folder."""


def _is_forgotten(status: os.stat_result) -> bool:
    # A younger one is of another sensor on the same folder, perhaps.
    return time.time() - status.st_mtime >= FORGOTTEN_SECONDS


def uploads_of(settings: Settings) -> Uploads:
    """Return what takes the uploads of a sensor in."""
    return Uploads(settings.ledger_path, _spool(settings), settings.max_upload_bytes)


def _spool(settings: Settings) -> Path:
    return settings.state_dir / "uploads"
