"""Bad settings, told to a person."""

import pytest

from sensors.stack.configuration import checked_settings
from sensors.stack.errors import StackError


def test_every_bad_setting_is_told_at_once_with_its_name_and_value(monkeypatch, tmp_path):
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    for name, value in {"API_PORT": "http", "SENSOR_PORT": "70000", "AUTH": "perhaps"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StackError) as refused:
        checked_settings()
    assert [(line.split(":")[0], line.split(", got ")[1].split(";")[0]) for line in refused.value.lines] == [
        ("API_PORT", "'http'"),
        ("SENSOR_PORT", "'70000'"),
        ("AUTH", "'perhaps'"),
    ]


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("API_PORT=4301\nSENSOR_PORT=4302\n")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("API_PORT", "4303")
    monkeypatch.delenv("SENSOR_PORT", raising=False)
    settings = checked_settings()
    assert (settings.api_port, settings.sensor_port) == (4303, 4302)


def test_a_file_that_is_no_text_is_told(monkeypatch, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfeA\x00")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    with pytest.raises(StackError, match=r"\.env: expected UTF-8 text"):
        checked_settings()
