"""Receiving: a request's body becomes a file under a hidden name, however slowly or falsely it comes."""

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from sensors.files.beneath import place_of, remove_beneath, write_all

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
