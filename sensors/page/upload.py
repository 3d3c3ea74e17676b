"""An upload: whether a file may come in under a name, and how it appears in its inbox whole."""

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from sensors.inbox import Inbox
from sensors.ledger import Ledger
from sensors.page.content_digest import DigestError, expected_digests
from sensors.page.receiving import Body, Patience, ReceivingError, receive
from sensors.settings import Settings
from sensors.settling.admission import Admission, admit, readable
from sensors.stack.drop import upload as upload_to_store
from sensors.stack.errors import StackError
from sensors.staging.rename import rename_without_replacing

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
        folder = self.spool if upload.inbox.url else (upload.inbox.path / upload.name).parent
        most = largest_upload(upload.inbox, self.max_bytes)
        try:
            await run_in_threadpool(_make_room, folder, upload.size or 0)
            partial = folder / f".{secrets.token_hex(8)}{PARTIAL}"
            body = await receive(chunks, partial, most, expected, self.patience)
            await run_in_threadpool(_place, partial, upload)
        except ReceivingError as error:
            raise UploadError(error.status, f"{readable(upload.name)}: {error}") from error
        except OSError as error:
            raise _failure(error, upload) from error
        return body

    def _check(self, upload: Upload) -> None:
        check_name(upload.name, upload.inbox)
        _check_ruling(upload, largest_upload(upload.inbox, self.max_bytes))
        _check_headers(upload)
        lies_there = not upload.inbox.url and os.path.lexists(upload.inbox.path / upload.name)
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
    if not inbox.url and (inbox.path / name).parent.resolve() != (inbox.path.resolve() / name).parent:
        raise UploadError(400, "a symbolic link is in the way of that name; use another one")


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


def _make_room(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _place(partial: Path, upload: Upload) -> None:
    try:
        if not upload.inbox.url:
            rename_without_replacing(partial, upload.inbox.path / upload.name)
            _sync(partial.parent)
            return
        named = partial.with_name(f"{partial.name}.d") / Path(upload.name).name
        named.parent.mkdir()
        try:
            partial.rename(named)
            upload_to_store(named, upload.inbox)
        finally:
            shutil.rmtree(named.parent)
    except FileExistsError as error:
        raise _taken(upload) from error
    except StackError as error:
        raise UploadError(502, "; ".join(error.lines)) from error
    finally:
        partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Have the new name outlive a power cut, before anybody is told that the file is there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _taken(upload: Upload) -> UploadError:
    return UploadError(
        409,
        f"{readable(upload.name)} is in {upload.inbox.name} already and has not been taken yet; "
        "wait for that, or use another name",
    )


def _failure(error: OSError, upload: Upload) -> UploadError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UploadError(507, f"there is no room for {readable(upload.name)} on the disk of {upload.inbox.name}")
    return UploadError(500, f"{readable(upload.name)} cannot be written: {error.strerror or type(error).__name__}")


def clear_forgotten(settings: Settings, inboxes: Iterable[Inbox]) -> None:
    """Remove what uploads that a kill cut short have left; raises OSError."""
    local = [inbox for inbox in inboxes if not inbox.url]
    found = [
        *_spool(settings).glob(f".*{PARTIAL}*"),
        *(partial for inbox in local for partial in inbox.path.glob(_pattern(inbox))),
    ]
    for partial in found:
        if time.time() - partial.lstat().st_mtime < FORGOTTEN_SECONDS:
            continue  # of another sensor on the same folder, perhaps
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def uploads_of(settings: Settings) -> Uploads:
    """Return what takes the uploads of a sensor in."""
    return Uploads(settings.ledger_path, _spool(settings), settings.max_upload_bytes)


def _spool(settings: Settings) -> Path:
    return settings.state_dir / "uploads"


def _pattern(inbox: Inbox) -> str:
    return f"**/.*{PARTIAL}" if inbox.subfolders else f".*{PARTIAL}"
