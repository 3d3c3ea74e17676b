"""The servers that a scale profile shares, looked at before anything is started."""

import psycopg
import pytest

from sensors.config.settings import Settings
from sensors.stack import balancer
from sensors.stack.preflight import wrong_servers
from tests.free_ports import free_ports
from tests.postgres import postgres_server
from tests.redis_server import redis_server


@pytest.fixture(scope="module")
def shared():
    with postgres_server() as database, redis_server() as redis:
        yield {"profile": "scale", "database_url": database.url(), "redis_url": redis.url}


def test_servers_that_answer_are_found_right(shared):
    assert wrong_servers(Settings(**shared, api_servers=1)) == []


def test_the_embedded_profile_has_none():
    assert wrong_servers(Settings()) == []


def test_servers_that_do_not_answer_are_all_reported_without_their_passwords():
    database, redis = free_ports(2)
    given = {
        "database_url": f"postgresql://me:secret@127.0.0.1:{database}/x",
        "redis_url": f"redis://:secret@127.0.0.1:{redis}",
    }
    lines = wrong_servers(Settings(profile="scale", api_servers=1, **given))
    assert [line.split(":")[0] for line in lines] == ["DATABASE_URL", "REDIS_URL"]
    assert "secret" not in str(lines)


def test_a_wrong_password_is_reported(shared):
    wrong = {name: shared[name].replace("@", "x@") for name in ("database_url", "redis_url")}
    lines = wrong_servers(Settings(profile="scale", api_servers=1, **wrong))
    assert "password authentication failed" in lines[0]
    assert "invalid username-password pair" in lines[1]


def test_a_database_of_another_encoding_is_reported_with_what_to_do(shared):
    with psycopg.connect(shared["database_url"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE plain ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    plain = shared["database_url"].removesuffix("postgres") + "plain"
    lines = wrong_servers(Settings(**{**shared, "database_url": plain}, api_servers=1))
    assert "expected a database whose encoding is UTF8, got SQL_ASCII" in lines[0]
    assert "createdb --encoding=UTF8" in lines[0]


def test_a_balancer_that_is_not_installed_is_reported_with_what_to_do(shared, monkeypatch):
    monkeypatch.setattr(balancer, "PROGRAM", "no-such-balancer")
    assert "apt install no-such-balancer" in wrong_servers(Settings(**shared))[0]


def test_the_credentials_of_the_installation_are_asked_for_where_no_server_is():
    joined = {
        "profile": "scale",
        "api_servers": 0,
        "service_processes": 0,
        "prefect_api_url": "http://10.0.0.5:4200/api",
    }
    assert "copy it from .env there" in wrong_servers(Settings(**joined, prefect_api_auth_string=""))[0]
    assert wrong_servers(Settings(**joined, prefect_api_auth_string="me:mine")) == []
