"""Ports for the servers that a test starts."""

import socket


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
