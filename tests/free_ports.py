"""Ports for the servers that a test starts."""

import random
import socket


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def free_ports_in_a_row(count: int) -> int:
    """Return the first of so many ports, one after the other, that nobody listens on.

    They lie below those that the kernel gives to outgoing connections, which would take one of them meanwhile.
    """
    while True:
        first = random.randrange(20_000, 32_000)
        held: list[socket.socket] = []
        try:
            held += [socket.create_server(("127.0.0.1", first + place)) for place in range(count)]
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return first
