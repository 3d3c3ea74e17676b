"""What Prefect is told for the scale profile: its own high-availability settings.

Source: Prefect's guide for self-hosted servers at scale (docs.prefect.io, "How to scale self-hosted Prefect").
"""

from urllib.parse import parse_qsl, urlencode, urlsplit

from sensors.config.settings import Settings

SERVER_SECRETS = (
    "DATABASE_URL",
    "REDIS_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_DOCKET_URL",
)
"""The variables that hold a password of Prefect's database or of Redis."""

# asyncpg knows libpq's `sslmode` as `ssl`.
_ASYNCPG = {"sslmode": "ssl"}


def scale_environment(settings: Settings) -> dict[str, str]:
    """Return Prefect's settings for servers and service processes; empty with `embedded`."""
    if not settings.is_scale or not settings.database_url.get_secret_value():
        return {}
    redis = settings.redis_url.get_secret_value()
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": asyncpg_url(settings.database_url.get_secret_value()),
        # It is done once for all, before the servers are started.
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": redis,
        "PREFECT_SERVER_DOCKET_URL": redis,
        # Half a second each: events outlast a restart of PostgreSQL. With Prefect's 5 they are dropped after 2.5 s.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES": "600",
        # An event goes on at once; by default four wait for a fifth, for up to ten seconds.
        "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
    }


def asyncpg_url(url: str) -> str:
    """Return a database's address as Prefect takes it, with the driver that it uses.

    >>> asyncpg_url("postgresql://me@db/prefect?sslmode=require")
    'postgresql+asyncpg://me@db/prefect?ssl=require'
    """
    parts = urlsplit(url)
    query = urlencode([(_ASYNCPG.get(name, name), value) for name, value in parse_qsl(parts.query)])
    return parts._replace(scheme="postgresql+asyncpg", query=query).geturl()
