"""Unpack compressed files as a stream, within the limits, and check that they are whole.

Python's own file classes for bzip2, xz and zstd pass over bytes after the end; here they reject the file, as with gzip.
"""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from bz2 import BZ2Decompressor
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from flows.errors import RejectionError
from flows.readers.guard import Guard
from flows.source_file import Compression, SourceFile

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

_AT_ONCE = 1 << 20
_XZ_MEMORY = 256 << 20
"""What an xz file may ask for to be unpacked; `xz -9` needs 65 MB."""
_MAGIC = {
    Compression.BZIP2: b"BZh",
    Compression.XZ: b"\xfd7zXZ\0",
    Compression.ZSTD: b"\x28\xb5\x2f\xfd",
}
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""A skippable frame begins with these bytes, after one of 0x50 to 0x5f."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


_NEW: dict[Compression, Callable[[], _Decompressor]] = {
    Compression.BZIP2: BZ2Decompressor,
    Compression.XZ: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    Compression.ZSTD: zstd.ZstdDecompressor,
}


@contextmanager
def opened(file: SourceFile, guard: Guard) -> Generator[BinaryIO]:
    """Open the bytes of a file, unpacked, within the limits of the guard.

    Reading raises RejectionError, LimitError, OSError, EOFError and zlib.error.
    """
    with file.path.open("rb") as plain:
        match file.compression:
            case None:
                yield plain
            case Compression.GZIP:
                with gzip.open(plain) as packed:
                    yield io.BufferedReader(_Limited(cast(BinaryIO, packed), guard), _AT_ONCE)
            case _ as compression:
                unpacking = cast(BinaryIO, _Unpacking(plain, compression))
                yield io.BufferedReader(_Limited(unpacking, guard), _AT_ONCE)


def unpacked(file: SourceFile, guard: Guard) -> Iterator[bytes]:
    """Yield the unpacked content of a file, within the limits, and check its checksum and length.

    Raises RejectionError, LimitError, OSError, EOFError and zlib.error.
    """
    with opened(file, guard) as content:
        while some := content.read(_AT_ONCE):
            yield some


class _Limited(io.RawIOBase):
    """Counts unpacked bytes. Raises LimitError."""

    def __init__(self, inner: BinaryIO, guard: Guard) -> None:
        self._inner, self._guard, self._size = inner, guard, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        some = self._inner.read(len(buffer))
        buffer[: len(some)] = some
        self._size += len(some)
        self._guard.check()
        self._guard.limits.check_unpacked(self._size, at_least=True)
        return len(some)


class _Unpacking:
    """Reads a file of one or several compressed streams, one after the other, and nothing else."""

    def __init__(self, packed: BinaryIO, compression: Compression) -> None:
        self._packed, self._compression = packed, compression
        self._rest = b""
        self._decompressor: _Decompressor | None = None

    def read(self, size: int) -> bytes:
        """Return up to this many bytes; none only at the end. Raises RejectionError."""
        while True:
            if self._decompressor is None or self._decompressor.eof:
                is_first = self._decompressor is None
                if self._decompressor is not None:
                    self._rest = self._decompressor.unused_data + self._rest
                if not self._begin(is_first=is_first):
                    return b""
            assert self._decompressor is not None  # noqa: S101 # _begin sets it
            given = b""
            if self._decompressor.needs_input:
                given, self._rest = self._rest or self._packed.read(_AT_ONCE), b""
                if not given:
                    raise self._damaged("it ends in the middle")
            try:
                some = self._decompressor.decompress(given, size)
            except (OSError, ValueError, lzma.LZMAError, zstd.ZstdError) as error:
                if isinstance(error, lzma.LZMAError) and "limit" in str(error):
                    raise RejectionError(
                        "the xz file needs too much memory to unpack; pack it with `xz -9` or less"
                    ) from None
                what = "its content does not match its checksum" if "checksum" in str(error).lower() else None
                raise self._damaged(what or "it cannot be unpacked") from None
            if some:
                return some

    def _begin(self, *, is_first: bool) -> bool:
        """Begin with the next stream; return False if there is none. Raises RejectionError for other bytes."""
        if not is_first and self._compression is Compression.XZ:
            # Zeros between streams are padding.
            self._rest = self._rest.lstrip(b"\0")
            while not self._rest and (some := self._packed.read(_AT_ONCE)):
                self._rest = some.lstrip(b"\0")
        while len(self._rest) < 6 and (some := self._packed.read(_AT_ONCE)):
            self._rest += some
        if not self._rest and not is_first:
            return False
        magic = _MAGIC[self._compression]
        is_skippable = self._compression is Compression.ZSTD and self._rest[1:4] == _ZSTD_SKIPPABLE
        if not self._rest.startswith(magic[: max(1, len(self._rest))]) and not is_skippable:
            if is_first:
                name = self._compression.described
                raise RejectionError(f"not {name}, though its name ends in .{self._compression.value}")
            raise self._damaged("other bytes follow its end")
        self._decompressor = _NEW[self._compression]()
        return True

    def _damaged(self, what: str) -> RejectionError:
        return RejectionError(f"the {self._compression.word} file is damaged: {what}; send it again")
