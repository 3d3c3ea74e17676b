"""The API of this stack's server, over plain HTTP: importing Prefect's client takes seconds."""

import ssl
from functools import cache

import httpx

from sensors.config.settings import Settings


@cache
def trusted() -> ssl.SSLContext:
    """Return whom to trust over HTTPS; a client that makes this for itself spends 20 ms on it, over HTTP as well."""
    return httpx.create_ssl_context(trust_env=False)


def open_api(settings: Settings, timeout_seconds: float = 5.0) -> httpx.Client:
    """Return a client of the API with this stack's credentials."""
    user, _, password = (settings.auth_string or "").partition(":")
    return httpx.Client(
        base_url=settings.api_url,
        auth=(user, password) if user else None,
        timeout=timeout_seconds,
        # A proxy of the user's cannot reach this machine's loopback.
        trust_env=False,
        verify=trusted(),
    )
