"""What is found wrong before anything is started."""

import os
import socket

import pytest

from sensors.config.settings import Settings
from sensors.stack.errors import StackError
from sensors.stack.preflight import open_code, preflight
from tests.free_ports import free_ports


@pytest.fixture
def settings(tmp_path):
    api_port, sensor_port = free_ports(2)
    return Settings(state_dir=tmp_path / "state", api_port=api_port, sensor_port=sensor_port)


def test_a_good_start_finds_nothing_wrong(settings):
    preflight(settings)


def test_one_port_for_both_is_refused(settings):
    with pytest.raises(StackError, match="API_PORT and SENSOR_PORT are both"):
        preflight(settings.model_copy(update={"sensor_port": settings.api_port}))


def test_a_taken_port_is_reported_with_its_owner_and_what_to_set(settings):
    with socket.create_server(("127.0.0.1", settings.api_port)), pytest.raises(StackError) as refused:
        preflight(settings)
    (line,) = refused.value.lines
    assert line.startswith(f"API_PORT {settings.api_port} is taken by pid {os.getpid()} (")
    assert line.endswith("stop it or set API_PORT to another port")


def test_everything_that_is_wrong_is_reported_together(settings, tmp_path):
    bad = settings.model_copy(update={"inboxes_file": tmp_path / "none.yaml"})
    with (
        socket.create_server(("127.0.0.1", bad.api_port)),
        socket.create_server(("127.0.0.1", bad.sensor_port)),
        pytest.raises(StackError) as refused,
    ):
        preflight(bad)
    reported = "\n".join(refused.value.lines)
    assert all(name in reported for name in ("API_PORT", "SENSOR_PORT", "none.yaml"))


@pytest.mark.parametrize(("name", "value"), [("WAREHOUSE_WAIT_SECONDS", "abc"), ("WAREHOUSE_MEMORY_LIMIT", "much")])
def test_a_bad_setting_of_the_flows_is_reported_in_one_line(settings, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(StackError) as refused:
        preflight(settings)
    (line,) = refused.value.lines
    assert line.startswith(f"check the environment and .env: {name}: ")
    assert line.endswith(f", got '{value}'")


def test_addresses_that_apprise_does_not_understand_are_reported_by_position_and_never_shown(settings, monkeypatch):
    urls = "json://127.0.0.1/x nonsense://hunter22 hunter23"
    monkeypatch.setenv("NOTIFY_URLS", urls)
    with pytest.raises(StackError) as refused:
        preflight(settings.model_copy(update={"notify_urls": urls}))
    assert [line[:20] for line in refused.value.lines] == ["NOTIFY_URLS: URL 2 (", "NOTIFY_URLS: URL 3 h"]
    assert "hunter" not in str(refused.value)


def test_code_and_inboxes_that_every_user_can_change_are_named_but_not_those_that_only_a_group_can(tmp_path):
    for folder in ("flows/loading", "sensors", "automations"):
        (tmp_path / folder).mkdir(parents=True)
    inboxes = tmp_path / "inboxes.yaml"
    for file in (inboxes, tmp_path / "prefect.yaml", tmp_path / "flows" / "mine.py"):
        file.touch()
        file.chmod(0o664)
    settings = Settings(state_dir=tmp_path, inboxes_file=inboxes)
    assert open_code(settings, tmp_path) == []
    inboxes.chmod(0o666)
    (tmp_path / "flows" / "loading").chmod(0o777)
    named = [line.partition(" ")[0] for line in open_code(settings, tmp_path)]
    assert named == [str(tmp_path / "flows" / "loading"), str(inboxes)]
