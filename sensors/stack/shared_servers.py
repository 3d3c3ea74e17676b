"""The servers that a scale profile shares, PostgreSQL and Redis: looked at before anything is started."""

from typing import Any

from sensors.config.profile import masked
from sensors.config.settings import Settings
from sensors.stack import balancer


def wrong_servers(settings: Settings) -> list[str]:
    """Return what keeps this machine from its part in the scale profile, in lines; nothing with `embedded`."""
    if not settings.is_scale:
        return []
    return [*_wrong_database(settings), *_wrong_redis(settings), *_no_balancer(settings), *_no_credentials(settings)]


def _wrong_database(settings: Settings) -> list[str]:
    if not settings.database_url.get_secret_value():
        return []
    import psycopg  # what only one profile needs takes half a second

    from sensors.stack.database import TIMEOUT_SECONDS, libpq_url, one_line

    url = libpq_url(settings)
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS) as connection:
            encoding = connection.info.parameter_status("server_encoding")
    except psycopg.Error as error:
        return [f"DATABASE_URL: {masked(url)} cannot be used: {one_line(error)}; start PostgreSQL, or correct it"]
    if encoding != "UTF8":
        return [
            f"DATABASE_URL: expected a database whose encoding is UTF8, got {encoding} at {masked(url)}; make it anew "
            "with `createdb --encoding=UTF8 --template=template0`"
        ]
    return []


def _wrong_redis(settings: Settings) -> list[str]:
    if not (url := settings.redis_url.get_secret_value()):
        return []
    from redis import Redis
    from redis.exceptions import RedisError

    from sensors.stack.database import TIMEOUT_SECONDS, one_line

    try:
        # redis-py's own types are not whole.
        redis: Any = Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)  # pyright: ignore[reportUnknownMemberType]
        with redis:
            redis.ping()
    except (RedisError, ValueError) as error:
        return [f"REDIS_URL: {masked(url)} cannot be used: {one_line(error)}; start Redis, or correct it"]
    return []


def _no_balancer(settings: Settings) -> list[str]:
    if not settings.has_balancer or balancer.program():
        return []
    return [
        f"API_SERVERS is {settings.api_servers}, and {balancer.PROGRAM}, which gives them one address, is not "
        f"installed; on Debian `apt install {balancer.PROGRAM}`, or set API_SERVERS=1"
    ]


def _no_credentials(settings: Settings) -> list[str]:
    if settings.has_server or settings.auth_string or settings.auth == "off":
        return []
    return [
        "PREFECT_API_AUTH_STRING: expected that of the installation at PREFECT_API_URL, got nothing; copy it from "
        ".env there"
    ]
