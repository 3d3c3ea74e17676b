"""Bad settings, told to a person."""

from pathlib import Path

import pytest

from sensors.stack.errors import StackError, checked_settings


def test_all_bad_settings_are_reported_together_with_name_and_value(monkeypatch, tmp_path):
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


def test_a_file_that_is_no_text_is_reported(monkeypatch, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfeA\x00")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    with pytest.raises(StackError, match=r"\.env: expected UTF-8 text"):
        checked_settings()


def test_every_line_that_cannot_be_read_is_reported_with_its_number_and_without_its_value(monkeypatch, tmp_path):
    file = tmp_path / ".env"
    file.write_text(
        "# one\nNOTIFY_URLS='json://me:hunter22@x\n\n\nthis is not env\nAUTH=on\n\nALONE\nexport STATE_DIR=x\n"
    )
    monkeypatch.setenv("ENV_FILE", str(file))
    with pytest.raises(StackError) as refused:
        checked_settings()
    assert [line.removesuffix("; correct or remove it") for line in refused.value.lines] == [
        f"{file}:2: expected NAME=value or a comment, got `NOTIFY_URLS=...` with a space in its name or an open quote",
        f"{file}:5: expected NAME=value or a comment, got a line without `=`",
        f"{file}:8: expected NAME=value or a comment, got a line without `=`",
    ]


def test_a_file_that_cannot_be_read_is_reported(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / ".env").touch()
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StackError, match=r"\.env: cannot be read \(Permission denied\); make it readable"):
        checked_settings()


@pytest.mark.parametrize("size", ["lots", "100%"])
def test_a_bad_size_is_said_once_and_in_our_words(monkeypatch, tmp_path, size):
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("DISK_FREE_MIN", size)
    with pytest.raises(StackError) as rejected:
        checked_settings()
    (line,) = rejected.value.lines
    assert line.startswith("DISK_FREE_MIN: expected ")
    assert line.count(f"got '{size}'") == line.count("got ") == 1
