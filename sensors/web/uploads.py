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

from sensors.config.admission_part import Admission, admit, readable
from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.files.beneath import place_of, remove_beneath, remove_tree
from sensors.files.rename import rename_without_replacing
from sensors.inbox.scan import scan
from sensors.ledger import Ledger
from sensors.stack.drop import upload as upload_to_store
from sensors.stack.errors import StackError
from sensors.web.content_digest import DigestError, expected_digests
from sensors.web.receiving import Body, Patience, ReceivingError, receive

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
