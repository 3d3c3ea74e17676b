"""Names and origins: under which names a service is asked for, and which pages may ask it for changes."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


@dataclass(frozen=True)
class Rejection:
    """Why a request is not served: the status of the answer, and the reason for a person or a script."""

    status: int
    reason: str
    seconds: int = 0
    """After how many seconds the request may be made again; 0: not said."""


def is_loopback(name: str) -> bool:
    """Return whether an address or name reaches only this machine.

    >>> [is_loopback(name) for name in ("127.0.0.2", "::1", "localhost", "10.0.0.1", "localhost.evil.example", "")]
    [True, True, True, False, False, False]
    """
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class OwnNames:
    """The names and origins of one service; those of the loopback always count as names."""

    host_names: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    """Origins in small letters, `https://files.example.com`, besides the one that the Host header names; `*`: any."""
    how_to_add: str = "set DROP_PAGE_URL to the address that it has"

    def wrong_host(self, host: str) -> Rejection | None:
        """Reject a name that is none of ours.

        The owner of a foreign page could otherwise point its name at the loopback and read the service's answers as
        its own (DNS rebinding).
        """
        name = name_of(host)
        if name in self.host_names or is_loopback(name):
            return None
        return Rejection(421, f"this page is not known by that name; {self.how_to_add}")

    def wrong_origin(self, headers: Mapping[str, str]) -> Rejection | None:
        """Reject a change that another site's page asks for with the browser's credentials or from its machine.

        Every browser says where such a request comes from, by Sec-Fetch-Site or by Origin, and a script says neither:
        https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
        Another port of this machine is the same site, and another page all the same.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if origin is not None and (origin.lower() in self.origins or "*" in self.origins):
            return None
        if site is not None and site not in {"same-origin", "none"}:
            return Rejection(403, f"a page of another origin asked for this ({site}); use this page itself")
        if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            return Rejection(403, "a page of another origin asked for this; use this page itself")
        return None


def name_of(host: str) -> str:
    """Return the name or address in a Host header, without its port; nothing if it is malformed.

    >>> [name_of(host) for host in ("[::1]:4200", "Files.example.com", "a@127.0.0.1", "[")]
    ['::1', 'files.example.com', '', '']
    """
    if set(host) & set("/?#@\\ "):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as a bracket that is left open
        return ""
