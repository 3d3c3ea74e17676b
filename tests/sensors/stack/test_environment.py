"""The environment of the stack's processes."""

import ssl

import pytest

from sensors.config.settings import Auth, Settings
from sensors.stack.environment import client_environment, stack_environment
from sensors.stack.processes import MARK
from sensors.stack.services import prefect_command, programs

SECRETIVE = {"PREFECT_SERVER_API_AUTH_STRING": "x:y", "PREFECT_API_AUTH_STRING": "x:y", "PATH": "/bin"}
SCALE = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}


def settings(tmp_path, **values):
    return Settings(state_dir=tmp_path, api_port=4799, prefect_api_auth_string="me:mine", **values)


def test_server_and_clients_share_the_credentials_of_the_settings(tmp_path):
    environment = stack_environment(settings(tmp_path), SECRETIVE)
    assert environment["PREFECT_API_AUTH_STRING"] == "me:mine"
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == "me:mine"


def test_auth_off_cannot_be_switched_on_by_the_environment_around(tmp_path):
    environment = stack_environment(settings(tmp_path, auth=Auth.OFF), SECRETIVE)
    assert not {"PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"} & environment.keys()


def test_nothing_calls_home(tmp_path):
    environment = stack_environment(settings(tmp_path), {})
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"


def test_another_profile_home_or_address_around_does_not_take_the_stack_apart(tmp_path):
    around = {"PREFECT_PROFILE": "cloud", "PREFECT_API_URL": "https://cloud", "PREFECT_HOME": "/elsewhere"}
    environment = stack_environment(settings(tmp_path), around)
    assert "PREFECT_PROFILE" not in environment
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4799/api"
    assert environment["PREFECT_HOME"] == str(tmp_path / "prefect")


def test_the_users_own_settings_of_prefect_reach_the_services(tmp_path):
    around = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    assert stack_environment(settings(tmp_path), around)["PREFECT_LOGGING_LEVEL"] == "DEBUG"


def test_a_proxy_does_not_come_between_the_services(tmp_path):
    around = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "intranet"}
    assert stack_environment(settings(tmp_path), around)["NO_PROXY"] == "127.0.0.1,localhost,intranet"


def test_runs_of_the_stack_find_its_own_warm_server(tmp_path):
    around = {"WARM_SOCKET": "/another/warm.sock"}
    assert stack_environment(settings(tmp_path), around)["WARM_SOCKET"] == str(tmp_path / "warm.sock")
    assert "WARM_SOCKET" not in client_environment(settings(tmp_path), around)


@pytest.mark.parametrize("more", [{}, SCALE], ids=["embedded", "scale"])
def test_without_the_warm_start_every_command_is_prefects_own_and_nothing_is_set_for_speed(tmp_path, more):
    ordinary = settings(tmp_path, warm_start="off", **more)
    environment = stack_environment(ordinary, {"WARM_SOCKET": "/another/warm.sock"})
    speed = {"WARM_SOCKET", "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_API_SSL_CERT_FILE"}
    assert environment.keys().isdisjoint(speed)
    commands = [" ".join(program.arguments) for program in programs(ordinary)]
    assert [one for one in commands if "forkserver" in one] == []
    assert any(one.startswith("prefect worker start --type process --pool local-process-pool") for one in commands)
    assert prefect_command(ordinary) == "prefect"


def test_prefects_clients_read_one_certificate_that_vouches_for_no_one(tmp_path):
    certificate = client_environment(settings(tmp_path), {})["PREFECT_API_SSL_CERT_FILE"]
    assert len(ssl.create_default_context(cafile=certificate).get_ca_certs()) == 1


def test_an_api_over_tls_is_checked_against_the_certificates_of_the_system(tmp_path):
    remote = settings(
        tmp_path,
        profile="scale",
        api_servers=0,
        database_url="postgresql+asyncpg://me:secret@db/prefect",
        redis_url="redis://redis",
        prefect_api_url="https://prefect.example.com/api",
    )
    assert "PREFECT_API_SSL_CERT_FILE" not in client_environment(remote, {})


def test_the_users_own_certificates_and_database_stay(tmp_path):
    around = {
        "PREFECT_API_SSL_CERT_FILE": "/etc/own.pem",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////elsewhere.db",
    }
    environment = stack_environment(settings(tmp_path), around)
    assert environment["PREFECT_API_SSL_CERT_FILE"] == "/etc/own.pem"
    assert environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "sqlite+aiosqlite:////elsewhere.db"
    assert "PREFECT_API_DATABASE_CONNECTION_URL" not in environment


def test_only_the_stacks_own_processes_carry_its_mark(tmp_path):
    assert stack_environment(settings(tmp_path), {})[MARK] == str(tmp_path)
    assert MARK not in client_environment(settings(tmp_path), {})


def test_the_page_is_reached_by_the_name_that_other_machines_know(tmp_path):
    given = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    shared = settings(tmp_path, api_host="10.0.0.5", **given)
    assert stack_environment(shared, {})["PREFECT_SERVER_UI_API_URL"] == "http://10.0.0.5:4799/api"
    assert stack_environment(shared, {})["PREFECT_API_URL"] == "http://10.0.0.5:4799/api"


def test_behind_a_proxy_the_page_and_what_it_asks_are_at_the_proxys_address(tmp_path):
    environment = stack_environment(Settings(state_dir=tmp_path, page_url="https://prefect.example.com/"), {})
    assert environment["PREFECT_UI_URL"] == "https://prefect.example.com"
    assert environment["PREFECT_SERVER_UI_API_URL"] == "https://prefect.example.com/api"
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


def test_a_machine_without_servers_talks_to_those_of_another(tmp_path):
    joined = settings(
        tmp_path, profile="scale", api_servers=0, service_processes=0, prefect_api_url="http://10.0.0.5:4200/api/"
    )
    assert stack_environment(joined, {})["PREFECT_API_URL"] == "http://10.0.0.5:4200/api"


def test_two_stacks_of_a_machine_share_no_temporary_files(tmp_path):
    assert stack_environment(settings(tmp_path), {"TMPDIR": "/tmp"})["TMPDIR"] == str(tmp_path / "tmp")


def test_runs_find_their_arrivals_page_at_this_stacks_sensor(tmp_path):
    assert stack_environment(settings(tmp_path, sensor_port=4711), {})["ARRIVAL_PAGE_URL"] == (
        "http://127.0.0.1:4711/arrivals/"
    )
    around = {"ARRIVAL_PAGE_URL": "https://files.example.com/arrivals/"}
    assert stack_environment(settings(tmp_path), around)["ARRIVAL_PAGE_URL"] == around["ARRIVAL_PAGE_URL"]


def test_where_several_sensors_may_be_no_page_is_guessed(tmp_path):
    scale = {"profile": "scale", "database_url": "postgresql://a:b@db/p", "redis_url": "redis://cache"}
    assert stack_environment(settings(tmp_path, **scale), {})["ARRIVAL_PAGE_URL"] == ""
