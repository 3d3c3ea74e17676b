"""A client's request: everything that makes the flow's process the one that the client is."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

STREAMS = 3
"""Standard input, output and error."""

FIXED_AT_START = (
    "PYTHON",
    "HOME",
    "LANG",
    "LC_",
    "LD_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "SSL_CERT_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
)
"""How the names of variables begin that act when a process starts or a library is imported, and never later."""


class RefusedError(Exception):
    """A request that cannot be fulfilled here; the client turns to the ordinary way."""


@dataclass(frozen=True)
class Request:
    """What a client asks for; the streams are open descriptors of ours."""

    executable: str
    folder: str
    umask: int
    environment: dict[bytes, bytes]
    streams: tuple[int, ...]


def read_request(connection: socket.socket) -> Request:
    """Read a request; raises RefusedError, ConnectionError when the client is gone, OSError."""
    head, streams, _, _ = socket.recv_fds(connection, 4, STREAMS)
    executable, folder, umask, *variables = _read(connection, int.from_bytes(_read(connection, 4, head), "big")).split(
        b"\0"
    )
    if len(streams) != STREAMS:
        raise RefusedError(f"expected {STREAMS} standard streams, got {len(streams)}")
    environment = dict(variable.split(b"=", 1) for variable in variables)
    return Request(os.fsdecode(executable), os.fsdecode(folder), int(umask), environment, tuple(streams))


def check_sameness(request: Request, own: Mapping[bytes, bytes] = os.environb) -> None:
    """Raise RefusedError for a request whose process would have started in another way than this one has."""
    if request.executable != sys.executable:
        raise RefusedError(f"the warm server runs {sys.executable}, not {request.executable}")
    names = {*request.environment, *own}
    different = sorted(
        os.fsdecode(name)
        for name in names
        if os.fsdecode(name).startswith(FIXED_AT_START) and request.environment.get(name) != own.get(name)
    )
    if different:
        raise RefusedError(f"the warm server was started with another {', '.join(different)}")


def _read(connection: socket.socket, size: int, got: bytes = b"") -> bytes:
    chunks = bytearray(got)
    while len(chunks) < size:
        more = connection.recv(min(size - len(chunks), 1 << 20))
        if not more:
            raise ConnectionError(f"the client hung up after {len(chunks)} of {size} bytes")
        chunks += more
    return bytes(chunks)
