"""Ports: who has one that we need."""

import errno
import socket

import psutil

LOCAL = "127.0.0.1"
"""Where what only this machine needs is listened for."""


class NoAddressError(Exception):
    """This machine has no such address, or no address has that name; the message says which."""


def taken_by(port: int, host: str = LOCAL) -> str | None:
    """Return what listens on a port of an address, for a person to read; None if it is free. Raises NoAddressError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise NoAddressError(f"{host} is no address and no name that has one ({error.strerror})") from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are only closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            return "the system (ports below 1024 are root's)"
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoAddressError(f"{host} is not an address of this machine") from error
            return _listener(port)
    return None


def _listener(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS shows them to root only
        connections = []
    for connection in connections:
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
            return _described(connection.pid)
    return "a process of another user"


def _described(pid: int) -> str:
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        command = "?"
    return f"pid {pid} ({command if len(command) <= 60 else command[:57] + '...'})"
