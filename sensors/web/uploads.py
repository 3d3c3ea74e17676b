"""Receive uploaded files: verify Content-Digest, write the body to a hidden file, move it into the inbox.

A file appears under its name only when it is complete, verified and on disk, and it never replaces another file.
Digests follow RFC 9530. Errors carry the HTTP status of the response.
"""

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

from sensors.config.admission import Admission, admit
from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.files.beneath import place_of, remove_beneath, remove_tree, write_all
from sensors.files.durability import rename_without_replacing
from sensors.inbox.pending_files import scan
from sensors.ledger import Ledger
from sensors.ledger.files import was_seen
from sensors.runtime.text import readable
from sensors.stack.drop import upload as upload_to_store
from sensors.stack.errors import StackError

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
"""The two algorithms that RFC 9530 calls active, with hashlib's names for them."""
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?")


class DigestError(ValueError):
    """A malformed Content-Digest header; the message says what was expected."""


def expected_digests(header: str | None) -> dict[str, bytes]:
    """Return the digests in a Content-Digest header, keyed by hashlib's names. Raises DigestError.

    Unknown algorithms are ignored, as the RFC requires.

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
    """Return the Content-Digest header value for a SHA-256 digest."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DigestError(f"Content-Digest: expected base64 between colons, got {encoded!r:.100}") from error


WRITE_BYTES = 1 << 20
"""How many bytes to buffer before each write: a call in a thread costs as much as writing 100 kB."""


class ReceivingError(Exception):
    """A body that was not received as expected; `status` is the status of the response."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class SlowClientLimits:
    """Limits for slow clients, in seconds and bytes per second."""

    silence_seconds: float = 30.0
    """The upload is aborted when no byte arrives for this long."""
    grace_seconds: float = 60.0
    """After this time the average rate must be at least `least_rate`."""
    least_rate: float = 1024.0

    def is_over(self, size: int, seconds: float) -> bool:
        """Return whether a client that sent `size` bytes in `seconds` is too slow."""
        return seconds > self.grace_seconds and size < seconds * self.least_rate


class Digest(Protocol):
    """The part of hashlib's hash objects that is used here."""

    def update(self, part: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


@dataclass
class ReceivedBody:
    """The size and digests of the bytes received so far."""

    size: int = 0
    digests: dict[str, Digest] = field(default_factory=dict[str, Digest])

    @property
    def sha256(self) -> bytes:
        """The SHA-256 digest of all bytes."""
        return self.digests["sha256"].digest()


async def receive(
    chunks: AsyncIterator[bytes],
    root: Path,
    partial: str,
    most: int,
    expected: Mapping[str, bytes],
    patience: SlowClientLimits,
) -> ReceivedBody:
    """Write a body to a new file and sync it to disk; on any error the file is removed.

    `partial` is the file's path below `root`, `most` the largest size in bytes, `expected` the digests keyed by
    hashlib's names. Raises ReceivingError, OSError.
    """
    body = ReceivedBody(digests={name: hashlib.new(name) for name in {"sha256", *expected}})
    try:
        # Not opened in a thread: if the request were cancelled meanwhile, nothing would close the file.
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


async def _write_all(
    chunks: AsyncIterator[bytes], file: FileIO, body: ReceivedBody, most: int, patience: SlowClientLimits
) -> None:
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


async def _patiently(
    chunks: AsyncIterator[bytes], body: ReceivedBody, patience: SlowClientLimits
) -> AsyncIterator[bytes]:
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


def _write(file: FileIO, part: bytes, body: ReceivedBody) -> None:
    write_all(file, part)
    for digest in body.digests.values():
        digest.update(part)


def _check(body: ReceivedBody, expected: Mapping[str, bytes]) -> None:
    for name, digest in expected.items():
        if not hmac.compare_digest(body.digests[name].digest(), digest):
            raise ReceivingError(400, f"Content-Digest: the {name} of the {body.size:,} bytes that came is another one")


PARTIAL = ".uploading"
"""The suffix of the hidden file that an upload is written to."""
FORGOTTEN_SECONDS = 86_400.0
"""A hidden file that has not changed for this long was left behind by a sensor that was killed."""


class UploadError(Exception):
    """A rejected or failed upload; `status` is the status of the response, the message is for users."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """A request to upload a file; `size` is its Content-Length, or None without one."""

    inbox: Inbox
    name: str
    size: int | None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Uploads:
    """Receives uploads for all inboxes."""

    ledger_path: Path
    spool: Path
    """The folder for files on their way to a remote inbox."""
    max_bytes: int
    patience: SlowClientLimits = field(default_factory=SlowClientLimits)

    async def take(self, upload: Upload, chunks: AsyncIterator[bytes]) -> ReceivedBody:
        """Receive a file and move it into its inbox. Raises UploadError and then leaves no file behind."""
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
        exists_in_inbox = not upload.inbox.url and _exists(upload)
        only_once = upload.headers.get("if-none-match", "").strip() == "*"
        if only_once and (exists_in_inbox or self._was_seen(upload)):
            raise UploadError(412, f"{readable(upload.name)} has come to {upload.inbox.name} before")
        if exists_in_inbox:
            raise _taken(upload)

    def _was_seen(self, upload: Upload) -> bool:
        """Return whether the ledger has a file of that name in the inbox that was not withdrawn."""
        with Ledger(self.ledger_path, read_only=True) as ledger:
            return was_seen(ledger, upload.name, upload.inbox.name)


def largest_upload(inbox: Inbox, max_bytes: int) -> int:
    """Return the largest size in bytes of an upload into an inbox; `max_bytes` is the limit for all inboxes."""
    return min(inbox.max_file_bytes, max_bytes)


def check_name(name: str, inbox: Inbox) -> None:
    """Raise UploadError for a name that is not UTF-8, leads out of the inbox, or into a folder it does not read."""
    parts = name.split("/")
    if "\ufffd" in name:  # the server's replacement for invalid UTF-8
        raise UploadError(400, "the name is not UTF-8; rename the file")
    if not name or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise UploadError(400, f"expected the name of a file, got {readable(name)!r:.200}")
    if len(parts) > 1 and not inbox.subfolders:
        raise UploadError(400, f"inbox {inbox.name!r} takes no subfolders; upload {readable(parts[-1])} itself")
    if any(part.startswith(".") for part in parts[:-1]):
        raise UploadError(422, "hidden folders are left alone; use another name")


def _check_ruling(upload: Upload, most: int) -> None:
    """Reject early a file that the sensor would reject or ignore."""
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
    """Return whether the inbox has an entry of that name. Raises UploadError if a symbolic link is in its path."""
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
            place.sync_folder()  # the name must survive a power cut before the client gets its response
    except FileExistsError as error:
        raise _taken(upload) from error
    except StackError as error:
        raise UploadError(502, "; ".join(error.lines)) from error
    finally:
        remove_beneath(root, partial)


def _send_on(spool: Path, partial: str, upload: Upload) -> None:
    """Send a received file to its remote inbox; the spool is the sensor's own folder, so plain paths are safe."""
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
    """Remove the hidden files of uploads during which a sensor was killed. Raises OSError."""
    for partial in _spool(settings).glob(f".*{PARTIAL}*"):
        if _is_forgotten(partial.lstat()):
            with place_of(partial.parent, partial.name) as place:
                remove_tree(place.folder, place.name)
    for inbox in inboxes:
        if not inbox.url:
            _clear_inbox(inbox)


def _clear_inbox(inbox: Inbox) -> None:
    """Remove forgotten uploads from an inbox; only regular files, as links and folders of such a name are not ours."""
    for entry in list(scan(inbox.path, _pass_by, subfolders=inbox.subfolders)):
        plain = entry.name.rpartition("/")[2]
        is_ours = plain.startswith(".") and plain.endswith(PARTIAL) and stat.S_ISREG(entry.status.st_mode)
        if is_ours and _is_forgotten(entry.status):
            remove_beneath(inbox.path, entry.name)


def _pass_by(folder: str, status: os.stat_result) -> None:
    """Do not watch the folder: `scan` calls this for each one."""


def _is_forgotten(status: os.stat_result) -> bool:
    # A younger file may belong to another sensor that uses the same folder.
    return time.time() - status.st_mtime >= FORGOTTEN_SECONDS


def uploads_of(settings: Settings) -> Uploads:
    """Return the Uploads of a sensor with these settings."""
    return Uploads(settings.ledger_path, _spool(settings), settings.max_upload_bytes)


def _spool(settings: Settings) -> Path:
    return settings.state_dir / "uploads"
