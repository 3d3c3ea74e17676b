"""Checks of the Host and Origin headers: against DNS rebinding, and against changes by foreign pages (CSRF)."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""HTTP methods that change nothing."""


@dataclass(frozen=True)
class Rejection:
    """Why a request is rejected: the HTTP status of the response and the reason."""

    status: int
    reason: str
    seconds: int = 0
    """Seconds after which the client may try again; 0 if unspecified."""


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
    """The host names and origins of one service; loopback names are always accepted as host names."""

    host_names: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    """Origins in lower case, `https://files.example.com`, besides the one that the Host header names; `*`: any."""
    how_to_add: str = "set DROP_PAGE_URL to the address that it has"

    def wrong_host(self, host: str) -> Rejection | None:
        """Reject a Host header that names another service.

        Otherwise the owner of a foreign page could point its domain at the loopback and read this service's responses
        as the same origin (DNS rebinding).
        """
        name = name_of(host)
        if name in self.host_names or is_loopback(name):
            return None
        return Rejection(421, f"this page is not known by that name; {self.how_to_add}")

    def wrong_origin(self, headers: Mapping[str, str]) -> Rejection | None:
        """Reject a change requested by a page of another origin, with the browser's credentials or from its machine.

        Every browser sends the source of such a request in Sec-Fetch-Site or Origin; a script sends neither:
        https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
        Another port of this machine is the same site but another origin, and is rejected.
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
    """Return the name or address in a Host header, without its port; an empty string if it is malformed.

    >>> [name_of(host) for host in ("[::1]:4200", "Files.example.com", "a@127.0.0.1", "[")]
    ['::1', 'files.example.com', '', '']
    """
    if set(host) & set("/?#@\\ "):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as an unclosed bracket
        return ""
