"""A real SFTP server, asyncssh's, on a free port of the loopback, with a host key and a client's key of its own."""

import asyncio
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from tests.free_ports import free_ports

USER = "partner"


@dataclass
class SftpFolder:
    """A folder on the server, as its owner sees it: on the disk."""

    server: "SftpServer"
    path: str = "in"

    def __post_init__(self) -> None:
        self.on_disk.mkdir(parents=True, exist_ok=True)

    @property
    def on_disk(self) -> Path:
        return self.server.root / self.path

    @property
    def url(self) -> str:
        return f"sftp://{USER}@127.0.0.1:{self.server.port}/{self.path}"

    @property
    def options(self) -> dict[str, object]:
        return {
            "client_keys": [str(self.server.client_key)],
            "known_hosts": str(self.server.known_hosts),
            "agent_path": None,
            "config": None,
        }

    def write(self, name: str, content: bytes) -> None:
        (self.on_disk / name).parent.mkdir(parents=True, exist_ok=True)
        (self.on_disk / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self.on_disk / name).read_bytes()

    def delete(self, name: str) -> None:
        (self.on_disk / name).unlink()

    def all_names(self) -> list[str]:
        """Return what lies there, claims included."""
        return sorted(str(path.relative_to(self.on_disk)) for path in self.on_disk.rglob("*") if not path.is_dir())


@dataclass
class SftpServer:
    """The server; what is on its disk stays when it is stopped and started again."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    closed: set[str] = field(default_factory=set[str])
    """Names of folders that nobody may list."""
    _acceptor: Any = None
    _connections: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self.root.mkdir()
        for name in ("host", "client", "stranger"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(self.folder / name))
            key.write_public_key(str(self.folder / f"{name}.pub"))
        self.client_key.chmod(0o600)
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self.folder / 'host.pub').read_text()}")
        threading.Thread(target=self._loop.run_forever, name="sftp server", daemon=True).start()

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def client_key(self) -> Path:
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def start(self) -> None:
        root, closed, connections = str(self.root).encode(), self.closed, self._connections

        class Remembering(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                connections.append(conn)

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                """Let it carry connections to this machine, as sshd does (`ssh -L`)."""
                return dest_host == "127.0.0.1"

        class Chrooted(asyncssh.SFTPServer):
            def __init__(self, chan: "asyncssh.SSHServerChannel[bytes]") -> None:
                super().__init__(chan, chroot=root)

            def scandir(self, path: bytes) -> Any:
                if os.fsdecode(path).rpartition("/")[2] in closed:
                    raise asyncssh.SFTPPermissionDenied("nobody may list it")
                return super().scandir(path)

        async def listen() -> Any:
            return await asyncssh.listen(
                "127.0.0.1",
                self.port,
                server_host_keys=[str(self.folder / "host")],
                authorized_client_keys=str(self.folder / "client.pub"),
                server_factory=Remembering,
                sftp_factory=Chrooted,
                reuse_address=True,
            )

        self._acceptor = self._run(listen())

    def stop(self) -> None:
        """Stop listening and hang up on everybody."""
        if (acceptor := self._acceptor) is None:
            return
        self._acceptor = None

        async def close() -> None:
            acceptor.close()
            for connection in self._connections:
                connection.abort()
            self._connections.clear()
            await acceptor.wait_closed()

        self._run(close())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        deadline = time.monotonic() + 5
        while self._loop.is_running() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._loop.close()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=15)


@contextmanager
def sftp_server(folder: Path) -> Generator[SftpServer]:
    """Run a server inside."""
    server = SftpServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.end()
