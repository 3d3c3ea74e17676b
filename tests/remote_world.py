"""A remote folder on a real S3 server, the same without claims, or on a real SFTP server, and sensors for it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sensors.config.inboxes import Inbox
from sensors.remote.open import open_store
from sensors.remote.store import Store
from tests.hand_clock import HandClock
from tests.object_store import Bucket, ObjectStoreServer, object_store
from tests.remote_stack import RemoteStack, by_the_ledger
from tests.sftp_server import SftpFolder, SftpServer, sftp_server

SETTLED = 12.0
"""Seconds after which a file that stays as it is has been taken, wherever it lies."""


Servers = tuple[ObjectStoreServer, SftpServer]


@contextmanager
def remote_servers_at(folder: Path) -> Generator[Servers]:
    """Run both servers inside."""
    with object_store() as objects, sftp_server(folder) as sftp:
        yield objects, sftp


@dataclass
class World:
    """A remote folder, and sensors that look at it."""

    kind: str
    remote: Bucket | SftpFolder
    folder: Path
    hand: HandClock
    stacks: list[RemoteStack]

    def inbox(self, **rules: object) -> Inbox:
        reported = {"name": "partner", "path": self.folder / "unused", "url": self.remote.url, **rules}
        return Inbox.model_validate({"options": self.remote.options, **reported})

    def sensor(self, name: str = "one", **rules: object) -> RemoteStack:
        inbox = self.inbox(**rules)
        stack = RemoteStack(self.folder / name, inbox, self.hand, self.store(inbox))
        self.stacks.append(stack)
        return stack

    def store(self, inbox: Inbox) -> Store:
        return by_the_ledger(open_store(inbox)) if self.kind == "s3 by the ledger" else open_store(inbox)


@contextmanager
def world_of(kind: str, servers: Servers, folder: Path, hand: HandClock) -> Generator[World]:
    """Make an empty remote folder of a kind; the sensors that were made are closed behind it."""
    objects, sftp = servers
    remote = SftpFolder(sftp, f"in-{folder.name}") if kind == "sftp" else Bucket(objects)
    world = World(kind, remote, folder, hand, [])
    try:
        yield world
    finally:
        for stack in world.stacks:
            stack.close()
