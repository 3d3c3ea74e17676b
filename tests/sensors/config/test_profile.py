"""What each profile is, and what is wrong with one."""

import pytest
from pydantic import ValidationError

from sensors.config.settings import Settings, masked, wrong_address
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.services import programs, services_of

SHARED = {"profile": "scale", "database_url": "postgresql://me:secret@db/prefect", "redis_url": "redis://:secret@cache"}
JOINED = {**SHARED, "api_servers": 0, "service_processes": 0, "prefect_api_url": "http://10.0.0.5:4200/api"}


def names(**given):
    return [program.name for program in programs(Settings(**given))]


def test_the_embedded_profile_is_one_of_each():
    assert names() == ["server", "worker", "sensor", "warm"]


def test_the_embedded_profile_leaves_aside_the_settings_of_the_other():
    assert names(api_servers=3, workers=9, database_url="nonsense") == names()


def test_the_scale_profile_has_as_many_of_each_as_is_asked_for():
    assert names(**SHARED, api_servers=2, service_processes=1, workers=3) == [
        *("server-1", "server-2", "balancer", "services-1", "worker-1", "worker-2", "worker-3", "sensor", "warm")
    ]


def test_one_api_server_needs_no_balancer():
    settings = Settings(**SHARED, api_servers=1, api_host="10.0.0.5")
    assert "balancer" not in services_of(settings)
    assert settings.api_server_ports == (settings.api_port,)
    assert "10.0.0.5" in programs(settings)[0].arguments


def test_behind_a_balancer_the_servers_listen_on_the_loopback_and_elsewhere():
    settings = Settings(**SHARED, api_port=4700, api_host="10.0.0.5")
    assert settings.api_server_ports == (4800, 4801)
    assert "10.0.0.5" not in programs(settings)[0].arguments


def test_a_machine_may_have_workers_alone():
    assert names(**JOINED, sensors=0, workers=1) == ["worker-1", "warm"]


def test_a_machine_may_have_a_sensor_alone():
    assert names(**JOINED, workers=0) == ["sensor"]


def test_a_machine_without_servers_needs_neither_database_nor_redis_but_the_apis_address():
    assert Settings(**{**JOINED, "database_url": "", "redis_url": ""}).api_url == "http://10.0.0.5:4200/api"
    with pytest.raises(ValidationError, match="expected the API's address"):
        Settings(**{**JOINED, "prefect_api_url": ""})


def test_workers_are_distinguished_by_their_machine_and_number():
    workers = [one.arguments[-1] for one in programs(Settings(**SHARED, node_name="here")) if one.service == "worker"]
    assert workers == ["here-1", "here-2"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "got nothing"),
        ("mysql://me:secret@db/prefect", r"got mysql://me:\*\*\*@db/prefect"),
        ("postgresql:///prefect", "got something else"),
        ("db/prefect", "got something else"),
        ("postgresql://[db", "got something else"),
    ],
)
def test_a_database_of_another_kind_is_refused_without_its_password(url, problem):
    with pytest.raises(ValidationError, match=problem) as refused:
        Settings(**{**SHARED, "database_url": url})
    assert "secret" not in str(refused.value)


def test_all_that_is_wrong_is_reported_together_and_no_secret_with_it(monkeypatch, tmp_path):
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    wrong = {"PROFILE": "scale", "DATABASE_URL": "mysql://me:secret@db/x", "WORKERS": "many", "API_HOST": "a b"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StackError) as refused:
        checked_settings()
    assert {line.split(":")[0] for line in refused.value.lines} == {"DATABASE_URL", "REDIS_URL", "WORKERS", "API_HOST"}
    assert "secret" not in str(refused.value.lines)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        (
            "postgresql://me:secret@db/x?sslmode=require&password=secret",
            "postgresql://me:***@db/x?sslmode=***&password=***",
        ),
        ("redis+sentinel://:secret@a:1,b:2/master", "redis+sentinel://:***@a:1,b:2/master"),
        ("postgresql://me:sec@ret@db/x", "postgresql://me:***@db/x"),
        ("me:secret", "something else"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_secret(url, shown):
    assert masked(url) == shown


def test_a_good_address_has_nothing_wrong():
    assert wrong_address("postgresql://me:secret@db:5432/prefect", ("postgresql",)) is None
