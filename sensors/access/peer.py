"""The other end of a loopback connection: whether it belongs to a process of our own user."""

import ipaddress
import os
import sys
from pathlib import Path

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def is_our_own(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Return whether our user owns the client's end of a connection on this machine; False where it is not known."""
    wanted = (_kernel_form(client), _kernel_form(server))
    try:
        return any(_owner(Path(table), wanted) == os.getuid() for table in _TABLES)
    except (OSError, ValueError, IndexError):  # no Linux, or hidden from us
        return False


def _owner(table: Path, wanted: tuple[set[str], set[str]]) -> int | None:
    for line in table.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] in wanted[0] and fields[2] in wanted[1]:
            return int(fields[7])
    return None


def _kernel_form(end: tuple[str, int]) -> set[str]:
    """Return how /proc/net writes an address and port: 32-bit words in the machine's order, IPv4 also as IPv6."""
    address = ipaddress.ip_address(end[0].partition("%")[0])
    forms = [address.packed]
    if isinstance(address, ipaddress.IPv4Address):
        forms.append(b"\0" * 10 + b"\xff\xff" + address.packed)
    return {f"{_words(form)}:{end[1]:04X}" for form in forms}


def _words(packed: bytes) -> str:
    parts = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(part, sys.byteorder):08X}" for part in parts)
