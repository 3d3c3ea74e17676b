"""Ports: who has one that we need."""

import socket

import psutil


def taken_by(port: int) -> str | None:
    """Return who listens on a port of 127.0.0.1, for a person to read; None if it is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are only closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return "the system (ports below 1024 are root's)"
        except OSError:
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
