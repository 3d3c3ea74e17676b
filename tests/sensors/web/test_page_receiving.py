"""A request's body becomes a file, or nothing is left of it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.web import uploads
from sensors.web.uploads import ReceivedBody, ReceivingError, SlowClientLimits, receive

HASTY = SlowClientLimits(silence_seconds=0.05)


async def chunks_of(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def received(
    folder: Path, chunks: AsyncIterator[bytes], most: int = 10**9, patience: SlowClientLimits = HASTY, **expected
):
    async def run() -> ReceivedBody:
        return await receive(chunks, folder, "partial", most, expected, patience)

    return asyncio.run(run())


@given(parts=st.lists(st.binary(max_size=50)), write_bytes=st.integers(1, 64))
def test_however_it_is_cut_the_same_bytes_are_on_the_disk(parts, write_bytes):
    whole = b"".join(parts)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "WRITE_BYTES", write_bytes)
        body = received(Path(folder), chunks_of(parts))
        assert (Path(folder) / "partial").read_bytes() == whole
    assert (body.size, body.sha256) == (len(whole), hashlib.sha256(whole).digest())


def test_digests_that_are_right_are_taken(tmp_path):
    digests = {"sha256": hashlib.sha256(b"ab").digest(), "sha512": hashlib.sha512(b"ab").digest()}
    assert received(tmp_path, chunks_of([b"a", b"b"]), **digests).size == 2


def gone(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_of_a_body_with_another_digest_nothing_is_left(tmp_path):
    with pytest.raises(ReceivingError, match="the sha512 of the 1 bytes that came is another one") as reported:
        received(tmp_path, chunks_of([b"a"]), sha512=b"x" * 64)
    assert reported.value.status == 400
    assert gone(tmp_path)


def test_more_than_is_taken_ends_it_at_once(tmp_path):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    with pytest.raises(ReceivingError, match="more than 1,000 bytes were sent") as reported:
        received(tmp_path, endless(), most=1000)
    assert reported.value.status == 413
    assert gone(tmp_path)


def test_a_client_that_falls_silent_is_given_up(tmp_path):
    async def silent() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    with pytest.raises(ReceivingError, match=r"nothing came for 0.05 seconds") as reported:
        received(tmp_path, silent())
    assert reported.value.status == 408
    assert gone(tmp_path)


def test_a_client_that_drips_is_given_up():
    patience = SlowClientLimits(grace_seconds=60, least_rate=1024)
    assert not patience.is_over(size=1, seconds=59)
    assert not patience.is_over(size=1024 * 61, seconds=60.5)
    assert patience.is_over(size=1024 * 60, seconds=61)


def test_a_client_that_drips_finds_its_upload_ended(tmp_path):
    async def dripping() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    with pytest.raises(ReceivingError, match="less than 1024 bytes a second came"):
        received(tmp_path, dripping(), patience=SlowClientLimits(grace_seconds=0.1))
    assert gone(tmp_path)


def test_a_client_that_goes_away_leaves_nothing(tmp_path):
    async def leaving() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        received(tmp_path, leaving())
    assert gone(tmp_path)


def test_a_request_that_is_cancelled_leaves_nothing(tmp_path):
    async def cancelled() -> None:
        async def silent() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        task = asyncio.create_task(receive(silent(), tmp_path, "partial", 10, {}, SlowClientLimits()))
        while gone(tmp_path):  # noqa: ASYNC110 - until it has begun
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert gone(tmp_path)


def test_on_a_full_disk_it_is_reported_in_the_middle():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        uploads._write(file, b"x", ReceivedBody(digests={"sha256": hashlib.sha256()}))
