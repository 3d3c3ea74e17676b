"""What Prefect is told for the scale profile."""

import pytest

from sensors.config.settings import Settings
from sensors.stack.environment import asyncpg_url, scale_environment, stack_environment

SHARED = {"profile": "scale", "database_url": "postgres://me:p%40ss@db/prefect", "redis_url": "redis://:secret@cache"}


def test_with_the_embedded_profile_prefect_gets_none_of_these_settings():
    assert scale_environment(Settings()) == {}


def test_the_servers_share_a_database_and_have_their_broker_cache_ordering_and_leases_in_redis(tmp_path):
    reported = stack_environment(Settings(state_dir=tmp_path, **SHARED), {})
    assert reported["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://me:p%40ss@db/prefect"
    assert reported["PREFECT_REDIS_MESSAGING_URL"] == reported["PREFECT_SERVER_DOCKET_URL"] == "redis://:secret@cache"
    assert {name for name, value in reported.items() if value.startswith("prefect_redis.")} == {
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
    }
    assert not any("sqlite" in value for value in reported.values())


def test_prefect_reads_these_settings_by_these_names(tmp_path, monkeypatch):
    from prefect.settings import Settings as PrefectSettings

    for name, value in scale_environment(Settings(state_dir=tmp_path, **SHARED)).items():
        monkeypatch.setenv(name, value)
    server = PrefectSettings().server
    assert server.events.messaging_broker == server.events.messaging_cache == "prefect_redis.messaging"
    assert server.events.causal_ordering == "prefect_redis.ordering"
    assert server.concurrency.lease_storage == "prefect_redis.lease_storage"
    assert server.docket.url == "redis://:secret@cache"
    assert server.database.migrate_on_start is False


def test_a_machine_that_has_neither_servers_nor_services_gets_no_setting_of_the_database(tmp_path):
    joined = {
        "profile": "scale",
        "api_servers": 0,
        "service_processes": 0,
        "prefect_api_url": "http://10.0.0.5:4200/api",
    }
    assert scale_environment(Settings(state_dir=tmp_path, **joined)) == {}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_usual_way_to_write_a_database_is_understood(scheme):
    assert asyncpg_url(f"{scheme}://db/prefect?sslmode=require") == "postgresql+asyncpg://db/prefect?ssl=require"
