"""A folder of an object store, through any of fsspec's filesystems.

Objects appear complete and cannot be renamed. So a file is claimed by writing a marker next to it, on condition that
there is none yet (mode `create` in fsspec). If a store does not honour that condition, the claim exists only in this
sensor's ledger, and no other sensor may take files from the folder.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sensors.files.beneath import Identity
from sensors.remote.store import (
    BLOCK_BYTES,
    ChangedError,
    Claim,
    ClaimResult,
    ErrorTranslator,
    RemoteFile,
    remote_identity,
)
from sensors.runtime.crash_points import kill_point

logger = logging.getLogger(__name__)

CLAIM = ".taking-"
"""Prefix of the names of markers; hidden, so that sensors that list the folder skip them."""
_MARKER = re.compile(r"(?:.*/)?\.taking-[0-9a-f]{16}-[^/]+", re.DOTALL)


@dataclass
class ObjectStore:
    """One folder of an object store; `root` is its bucket and prefix."""

    filesystem: Any
    root: str
    asking: ErrorTranslator
    appears_whole: bool = field(default=True, init=False)

    # -- listing

    def listing(self, *, subfolders: bool) -> Iterator[RemoteFile]:
        """Yield the files, markers included, and for each whether a sensor has claimed it."""
        with self.asking():
            found = list(self._entries(subfolders=subfolders))
        claims = {file.name for file in found if file.name.rpartition("/")[2].startswith(CLAIM)}
        for file in found:
            is_claimed = bool(claims) and claim_of(file.name, file.identity) in claims
            yield replace(file, is_claimed=True) if is_claimed else file

    def _entries(self, folder: str = "", *, subfolders: bool) -> Iterator[RemoteFile]:
        try:
            infos: list[dict[str, Any]] = self.filesystem.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            # An object store has no folders: a folder without files does not exist, which is no error.
            if not folder and not self.filesystem.exists(self._bucket):
                raise
            return
        for info in infos:
            name = str(info["name"]).lstrip("/")[len(self.root) + 1 :]
            if info["type"] != "directory":
                if name and not name.endswith("/"):  # not an object that some programs write to represent a folder
                    yield _file(name, info)
            elif subfolders and name and not is_hidden(name.rstrip("/") + "/"):
                yield from self._entries(name.rstrip("/"), subfolders=True)

    def find(self, name: str) -> RemoteFile | None:
        """Return the file that has this name now, or None."""
        with self.asking():
            return self._find(name)

    def _find(self, name: str) -> RemoteFile | None:
        try:
            info: dict[str, Any] = self.filesystem.info(self._path(name))
        except FileNotFoundError:
            return None
        return _file(name, info) if info["type"] == "file" else None

    # -- claiming

    @cached_property
    def honours_claims(self) -> bool:
        """Whether the store refuses to overwrite a marker; tested once, with a marker of our own."""
        probe = self._path(f"{CLAIM}probe-{secrets.token_hex(8)}")
        with self.asking():
            try:
                self._create(probe, b"1")
                honours = not self._create(probe, b"2")
            except (PermissionError, NotImplementedError, TypeError, ValueError) as error:
                logger.debug("%s: no markers can be written: %s", self.asking.where, type(error).__name__)
                honours = False
            with suppress(FileNotFoundError, PermissionError):
                self.filesystem.rm_file(probe)
        if not honours:
            logger.warning("%s: the store takes no claims, so no other sensor may watch this folder", self.asking.where)
        return honours

    def _create(self, path: str, content: bytes) -> bool:
        """Write an object unless it exists; return whether it was written."""
        try:
            self.filesystem.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        return True

    def hold(self, name: str, identity: Identity, token: str) -> ClaimResult:
        """Claim a file if it is the one that had settled."""
        if self.honours_claims and not self._claim(name, identity, token):
            return ClaimResult.GONE
        found = self.find(name)
        if found is not None and found.identity == identity:
            return ClaimResult.HELD
        self.release(name, identity, token)
        return ClaimResult.GONE if found is None else ClaimResult.CHANGED

    def _claim(self, name: str, identity: Identity, token: str) -> bool:
        marker = self._path(claim_of(name, identity))
        with self.asking():
            if self._create(marker, token.encode()):
                return True
            try:
                # Is it ours, from before a crash or from an attempt whose response was lost?
                return self.filesystem.cat_file(marker) == token.encode()
            except FileNotFoundError:
                return False  # the other sensor has just finished with it

    def release(self, name: str, identity: Identity, token: str) -> None:
        """Remove our marker."""
        if self.honours_claims:
            self.delete_file(claim_of(name, identity))

    def claims(self, *, subfolders: bool) -> Iterator[Claim]:
        """Yield all claims. A marker of a file that is gone is ignored."""
        found = {file.name: file for file in self.listing(subfolders=subfolders)}
        originals = {claim_of(name, file.identity): file for name, file in found.items()}
        for marker in found:
            match = _MARKER.fullmatch(marker)
            if match is None:
                continue
            with self.asking():
                try:
                    token = str(self.filesystem.cat_file(self._path(marker)), "utf-8", "replace")
                except FileNotFoundError:
                    continue
            if (original := originals.get(marker)) is not None:
                yield Claim(original.name, original.identity, token)

    # -- reading

    def read(self, name: str, identity: Identity, token: str) -> Iterator[bytes]:
        """Yield the content of a claimed file."""
        return self.read_file(name, identity)

    def read_file(self, name: str, identity: Identity) -> Iterator[bytes]:
        """Yield the content of a file. Raises ChangedError."""
        with self.asking(let_through=(PermissionError,)):
            try:
                opened = self.filesystem.open(self._path(name), "rb", block_size=BLOCK_BYTES, cache_type="none")
            except FileNotFoundError as error:
                raise ChangedError from error
        with opened:
            self._check_opened(opened, identity)
            while True:
                with self.asking(let_through=(PermissionError,)):
                    block = self._read(opened)
                if not block:
                    return
                yield block

    def _check_opened(self, opened: Any, identity: Identity) -> None:
        """Raise ChangedError if the opened object is known to be another version."""

    def _read(self, opened: Any) -> bytes:
        try:
            return opened.read(BLOCK_BYTES)
        except FileNotFoundError as error:
            raise ChangedError from error

    def is_whole(self, name: str, identity: Identity, token: str) -> bool:
        """Return whether the file was still the same after it was read."""
        found = self.find(name)
        return found is not None and found.identity == identity

    # -- deleting

    def remove(self, name: str, identity: Identity, token: str) -> None:
        """Delete the file if it is still that version, then our marker."""
        self._delete(name, identity)
        kill_point("original-gone")
        with suppress(PermissionError):  # a marker of a file that is gone is ignored
            self.release(name, identity, token)

    def _delete(self, name: str, identity: Identity) -> None:
        # A version that another program writes between the check and the deletion is lost: see the docs.
        found = self.find(name)
        if found is not None and found.identity == identity:
            self.delete_file(name)

    def delete_file(self, name: str) -> None:
        """Delete a file if it exists."""
        with self.asking(let_through=(PermissionError,)), suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(name))

    # -- uploading

    def put(self, source: str, name: str) -> None:
        """Upload a complete file, unless the name is taken. Raises FileExistsError."""
        if self.find(name) is not None:
            raise FileExistsError(name)
        with self.asking(let_through=(FileExistsError,)):
            self.filesystem.put_file(source, self._path(name), mode="create" if self.honours_claims else "overwrite")

    def close(self) -> None:
        """Do nothing: the connections end with the filesystem object."""

    @property
    def _bucket(self) -> str:
        return self.root.partition("/")[0]

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def claim_of(name: str, identity: Identity) -> str:
    """Return the name of the marker that claims one version of a file."""
    folder, slash, plain = name.rpartition("/")
    version = f"{identity.inode}/{identity.size}/{identity.mtime_ns}"
    return f"{folder}{slash}{CLAIM}{hashlib.sha256(version.encode()).hexdigest()[:16]}-{plain}"


def is_hidden(name: str) -> bool:
    """Return whether a folder in a file's path is hidden; `..` is not, it is rejected with a reason."""
    return any(part.startswith(".") and part not in {".", ".."} for part in name.split("/")[:-1])


def _file(name: str, info: dict[str, Any]) -> RemoteFile:
    changed = _moment(info.get("LastModified") or info.get("mtime") or info.get("created"))
    version = str(info.get("ETag") or info.get("generation") or info.get("etag") or changed)
    return RemoteFile(name, remote_identity(info["size"] or 0, changed, version), version=version)


def _moment(given: datetime | float | str | None) -> datetime | None:
    if isinstance(given, str):
        return datetime.fromisoformat(given)
    if isinstance(given, int | float):
        return datetime.fromtimestamp(given, UTC)
    return given


# S3 store: listings in pages, and reads and deletes on condition that the version is unchanged.


@dataclass
class S3Store(ObjectStore):
    """One folder of an S3 bucket, through s3fs."""

    # -- listing

    def _entries(self, folder: str = "", *, subfolders: bool) -> Iterator[RemoteFile]:
        # s3fs's own `ls` of an empty folder also lists everything next to it.
        delimiter: dict[str, str] = {} if subfolders else {"Delimiter": "/"}
        for page in self._pages(Prefix=self._below, **delimiter):
            for entry in page.get("Contents", ()):
                file = self._seen(entry)
                if file.name and not file.name.endswith("/") and not is_hidden(file.name):
                    yield file

    def _pages(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page: dict[str, Any] = self._call("list_objects_v2", **arguments, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _find(self, name: str) -> RemoteFile | None:
        # A listing instead of a HEAD request, which returns the time in another form and needs another permission.
        page = self._call("list_objects_v2", Prefix=self._below + name, MaxKeys=1)
        files = [self._seen(entry) for entry in page.get("Contents", ())]
        return next((file for file in files if file.name == name), None)

    def _seen(self, entry: dict[str, Any]) -> RemoteFile:
        identity = remote_identity(entry["Size"], entry["LastModified"], entry["ETag"])
        return RemoteFile(entry["Key"][len(self._below) :], identity, version=entry["ETag"])

    # -- conditional reads and deletes

    def _check_opened(self, opened: Any, identity: Identity) -> None:
        version, size = opened.details["ETag"], opened.details["size"]
        if remote_identity(size, None, version).inode != identity.inode or size != identity.size:
            raise ChangedError

    def _read(self, opened: Any) -> bytes:
        try:
            return super()._read(opened)
        except OSError as error:
            if type(error).__name__ == "FileExpired":
                raise ChangedError from error
            raise

    def is_whole(self, name: str, identity: Identity, token: str) -> bool:
        """Return True: each block was requested on condition that the version is the same."""
        return True

    @cached_property
    def deletes_on_condition(self) -> bool:
        """Whether the store refuses to delete another version than the one named; tested with a probe object."""
        probe = f"{CLAIM}probe-{secrets.token_hex(8)}"
        with self.asking():
            try:
                self.filesystem.pipe_file(self._path(probe), b"1")
            except PermissionError:
                return False
            try:
                self._call("delete_object", Key=self._below + probe, IfMatch=f'"{"0" * 32}"')
            except PermissionError:
                return False  # deletes without a condition fail too, which is reported for each file
            except OSError as error:
                if not _is_other_version(error):
                    raise
                self._call("delete_object", Key=self._below + probe)
                return True
            return False

    def hold(self, name: str, identity: Identity, token: str) -> ClaimResult:
        """Claim a file, after testing which conditions the store honours."""
        _ = self.deletes_on_condition
        return super().hold(name, identity, token)

    def _delete(self, name: str, identity: Identity) -> None:
        if not self.deletes_on_condition:
            super()._delete(name, identity)
            return
        found = self.find(name)
        if found is None or found.identity != identity:
            return
        with self.asking(let_through=(PermissionError,)), suppress(FileNotFoundError):
            try:
                self._call("delete_object", Key=self._below + name, IfMatch=found.version)
            except OSError as error:
                if not _is_other_version(error):
                    raise

    def _create(self, path: str, content: bytes) -> bool:
        try:
            return super()._create(path, content)
        except OSError as error:
            if not _is_other_version(error):  # S3 also answers this to two concurrent writes
                raise
            return False

    def _call(self, method: str, **arguments: Any) -> Any:
        return self.filesystem.call_s3(method, Bucket=self._bucket, **arguments)

    @property
    def _below(self) -> str:
        """The prefix of all keys of the folder."""
        prefix = self.root.partition("/")[2]
        return f"{prefix}/" if prefix else ""


def _is_other_version(error: OSError) -> bool:
    """Return whether S3 says that the version is not the one named."""
    answer = getattr(error.__cause__, "response", {})
    return answer.get("Error", {}).get("Code") in {"PreconditionFailed", "ConditionalRequestConflict"}
