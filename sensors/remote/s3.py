"""S3 store: listings in pages, and reads and deletes on condition that the version is unchanged."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sensors.files.identity import Identity
from sensors.remote.object_store import CLAIM, ObjectStore, is_hidden
from sensors.remote.store import ChangedError, ClaimResult, RemoteFile, remote_identity


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
