"""A folder of an SFTP server, through sshfs, fsspec's filesystem for it.

A file is claimed by renaming it within its folder to a hidden name, of the same form as for a local file that has to be
copied. The rename of sshfs is not used, because it copies and deletes if the server has no atomic rename.
"""

import posixpath
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncssh
from fsspec.asyn import get_loop, sync  # pyright: ignore[reportUnknownVariableType]

from sensors.arrivals.move import claimed_name
from sensors.config.admission import is_ignored_folder
from sensors.files.beneath import Identity
from sensors.remote.store import (
    BLOCK_BYTES,
    CALL_SECONDS,
    ChangedError,
    Claim,
    ClaimResult,
    ErrorTranslator,
    PartlyError,
    RemoteFile,
    StoreError,
    remote_identity,
)

NAMES = {"path_errors": "surrogateescape"}
"""One name that is not UTF-8 must not hide all others; it is rejected by itself."""
_KINDS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "link": stat.S_IFLNK}


@dataclass
class SftpStore:
    """One folder of an SFTP server; it connects when needed, and again when the connection is lost."""

    connect: Callable[[], Any]
    """Creates sshfs's filesystem, which is one connection."""
    root: str
    asking: ErrorTranslator
    appears_whole: bool = field(default=False, init=False)
    _filesystem: Any = field(default=None, init=False)
    _client: Any = field(default=None, init=False)
    _connecting: threading.Lock = field(default_factory=threading.Lock, init=False)

    # -- listing

    def listing(self, *, subfolders: bool) -> Iterator[RemoteFile]:
        """Yield the files; no symlink is followed. The error of an unreadable folder is raised at the end."""
        troubles: list[StoreError] = []
        yield from self._folder("", subfolders, troubles)
        if troubles:
            raise PartlyError(str(troubles[0]))

    def _folder(self, folder: str, subfolders: bool, troubles: list[StoreError]) -> Iterator[RemoteFile]:
        path = self._path(folder)
        try:
            infos: list[dict[str, Any]] = self._do(lambda: self._fs.ls(path, detail=True, timeout=CALL_SECONDS))
        except FileNotFoundError as error:
            if not folder:
                raise self.asking.store_error(error) from None
            return
        except PermissionError as error:
            if not folder:
                raise self.asking.store_error(error) from None
            troubles.append(self.asking.store_error(error))
            return
        for info in infos:
            plain = str(info["name"])[len(posixpath.join(path, "")) :]
            name = f"{folder}/{plain}" if folder else plain
            if subfolders and info["type"] == "directory":
                if not is_ignored_folder(plain):
                    yield from self._folder(name, subfolders, troubles)
            else:
                identity = remote_identity(info["size"] or 0, info["mtime"])
                yield RemoteFile(name, identity, _KINDS.get(info["type"], stat.S_IFIFO))

    def find(self, name: str) -> RemoteFile | None:
        """Return the file that has this name now, a symlink itself, or None."""
        try:
            answer = self._call("lstat", self._path(name))
        except FileNotFoundError:
            return None
        changed = None if answer.mtime is None else datetime.fromtimestamp(answer.mtime, UTC)
        kind = stat.S_IFMT(answer.permissions or 0) or stat.S_IFREG
        return RemoteFile(name, remote_identity(answer.size or 0, changed), kind)

    # -- claiming

    def hold(self, name: str, identity: Identity, token: str) -> ClaimResult:
        """Claim a file by a rename if it is the one that had settled."""
        claim = claim_of(name, token)
        if self.find(claim) is None:  # else it was claimed before a crash
            found = self.find(name)
            if found is None:
                return ClaimResult.GONE
            if found.identity != identity or not stat.S_ISREG(found.kind):
                return ClaimResult.CHANGED
            try:
                self._claim(self._path(name), self._path(claim))
            except FileNotFoundError:
                return ClaimResult.GONE
        if self.is_whole(name, identity, token):
            return ClaimResult.HELD
        self.release(name, identity, token)
        return ClaimResult.CHANGED

    def _claim(self, path: str, claim: str) -> None:
        try:
            self._call("posix_rename", path, claim)  # atomic; nothing else has that name
        except asyncssh.SFTPOpUnsupported:
            self._call("rename", path, claim)

    def is_whole(self, name: str, identity: Identity, token: str) -> bool:
        """Return whether the claimed file is unchanged: a process that had it open may have gone on writing."""
        found = self.find(claim_of(name, token))
        return found is not None and found.identity == identity and stat.S_ISREG(found.kind)

    def release(self, name: str, identity: Identity, token: str) -> None:
        """Give a claimed file back, under a similar name if another file has taken its own."""
        claim = claim_of(name, token)
        folder, slash, plain = name.rpartition("/")
        stem, suffix = posixpath.splitext(plain)
        for free in (name, f"{folder}{slash}{stem[:150]}.{token[-15:]}{suffix[:30]}"):
            if self.find(claim) is not None and self.find(free) is None:
                self._call("rename", self._path(claim), self._path(free))  # this rename replaces nothing

    def claims(self, *, subfolders: bool) -> Iterator[Claim]:
        """Yield all claims."""
        for file in list(self.listing(subfolders=subfolders)):
            folder, slash, plain = file.name.rpartition("/")
            if (answer := claimed_name(plain)) and stat.S_ISREG(file.kind):
                name = answer[1]
                token = plain.removeprefix(".taking-").removesuffix(f"-{name}")
                yield Claim(f"{folder}{slash}{name}", file.identity, token)

    # -- reading and deleting

    def read(self, name: str, identity: Identity, token: str) -> Iterator[bytes]:
        """Yield the content of a claimed file."""
        return self.read_file(claim_of(name, token), identity)

    def read_file(self, name: str, identity: Identity) -> Iterator[bytes]:
        """Yield the content of a file. Raises ChangedError."""
        try:
            opened = self._call("open", self._path(name), "rb")
        except FileNotFoundError as error:
            raise ChangedError from error
        try:
            while block := self._do(lambda: self._sync(opened.read, BLOCK_BYTES)):
                yield block
        finally:
            with suppress(StoreError, OSError):
                self._do(lambda: self._sync(opened.close))

    def remove(self, name: str, identity: Identity, token: str) -> None:
        """Delete the claimed file; a new file of the same name is left alone."""
        self.delete_file(claim_of(name, token))

    def delete_file(self, name: str) -> None:
        """Delete a file if it exists."""
        with suppress(FileNotFoundError):
            self._call("remove", self._path(name))

    def put(self, source: str, name: str) -> None:
        """Upload a file under a hidden name and rename it when it is complete. Raises FileExistsError."""
        folder, slash, plain = name.rpartition("/")
        part = f"{folder}{slash}.{plain}.part"
        if self.find(name) is not None:
            raise FileExistsError(name)
        try:
            self._do(lambda: self._fs.put_file(source, self._path(part)))
            self._call("rename", self._path(part), self._path(name))
        finally:
            with suppress(StoreError):
                self.delete_file(part)

    # -- the connection

    def close(self) -> None:
        """Close the connection."""
        filesystem, self._filesystem, self._client = self._filesystem, None, None
        if filesystem is not None:
            with suppress(Exception):
                get_loop().call_soon_threadsafe(filesystem.client.abort)

    @property
    def _fs(self) -> Any:
        with self._connecting:
            if self._filesystem is None:
                self._filesystem = self.connect()
            return self._filesystem

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call an SFTP method that sshfs does not offer, on its connection."""

        def call() -> Any:
            filesystem = self._fs
            with self._connecting:
                client = self._client or self._sync(filesystem.client.start_sftp_client, **NAMES)
                self._client = client
            return self._sync(getattr(client, method), *arguments)

        return self._do(call)

    @staticmethod
    def _sync(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return sync(get_loop(), function, *arguments, timeout=CALL_SECONDS, **named)

    def _do(self, what: Callable[[], Any]) -> Any:
        """Run a call on the connection; raises FileNotFoundError and PermissionError for a file, else StoreError.

        asyncssh's SFTPOpUnsupported is raised as it is.
        """
        try:
            return what()
        except (asyncssh.SFTPNoSuchFile, FileNotFoundError) as error:
            raise FileNotFoundError(str(error)) from error
        except asyncssh.SFTPPermissionDenied as error:
            raise PermissionError(str(error)) from error
        except asyncssh.SFTPOpUnsupported:
            raise
        except Exception as error:  # noqa: BLE001 - as in `ErrorTranslator`
            self.close()  # the next call makes a new connection
            raise self.asking.store_error(error) from None

    def _path(self, name: str) -> str:
        return posixpath.join(self.root, name) if name else self.root


def claim_of(name: str, token: str) -> str:
    """Return the hidden name under which a file is claimed; a local file has the same."""
    folder, slash, plain = name.rpartition("/")
    return f"{folder}{slash}.taking-{token}-{plain}"
