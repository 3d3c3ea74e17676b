"""What the environment and `.env` say about alerts."""

from pathlib import Path

import pytest

from automations.errors import ConfigurationError
from automations.settings import AlertSettings, read_settings
from tests.postings import policy


@pytest.fixture
def env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in AlertSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    file = tmp_path / ".env"
    monkeypatch.setenv("ENV_FILE", str(file))
    return file


def test_without_a_word_alerts_go_to_the_log_alone(env_file: Path) -> None:
    assert read_settings().policy == policy("")
    assert read_settings().policy.all_channels == {}


def test_what_the_file_says_is_the_policy(env_file: Path) -> None:
    env_file.write_text(
        "NOTIFY_URLS=json://127.0.0.1/a json://127.0.0.1/b\n"
        "NOTIFY_FALLBACK_URLS=json://127.0.0.1/c\n"
        "NOTIFY_ROUTES=env:prod=json://127.0.0.1/d\n"
        "NOTIFY_STORM=2/1h\n"
        "NOTIFY_SILENCE=22:00-07:00 Europe/Berlin\n"
        "NOTIFY_SILENCE_EXCEPT=env:prod alert:run-failed\n"
    )
    assert read_settings().policy == policy(
        "json://127.0.0.1/a",
        "json://127.0.0.1/b",
        fallback_urls="json://127.0.0.1/c",
        routes="env:prod=json://127.0.0.1/d",
        storm="2/1h",
        silence="22:00-07:00 Europe/Berlin",
        silence_except="alert:run-failed env:prod",
    )


def test_the_environment_wins_over_the_file(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("NOTIFY_STORM=2/1h\n")
    monkeypatch.setenv("NOTIFY_STORM", "3/1h")
    assert read_settings().policy.storm.messages == 3


def test_everything_that_cannot_be_read_is_reported_together_by_its_name_and_without_a_url(env_file: Path) -> None:
    env_file.write_text(
        "NOTIFY_ROUTES=env:prod=nothing://hunter22\n"
        "NOTIFY_STORM=often\n"
        "NOTIFY_SILENCE=at night\n"
        "SERVER_SILENT_SECONDS=1\n"
    )
    with pytest.raises(ConfigurationError) as error:
        read_settings()
    reported = [str(problem) for problem in error.value.problems]
    assert [one.split(":")[0] for one in reported] == [
        "NOTIFY_ROUTES",
        "NOTIFY_STORM",
        "NOTIFY_SILENCE",
        "SERVER_SILENT_SECONDS",
    ]
    assert "5/10m" in reported[1]
    assert "22:00-07:00" in reported[2]
    assert "hunter22" not in str(error.value) + repr(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("name", ["notify_urls", "notify_fallback_urls", "notify_routes"])
def test_no_url_is_in_the_text_form_of_the_settings(env_file: Path, name: str) -> None:
    url = "env:prod=json://me:hunter22@127.0.0.1" if name == "notify_routes" else "json://me:hunter22@127.0.0.1"
    settings = AlertSettings.model_validate({name: url})
    assert "hunter22" not in f"{settings} {settings!r} {settings.model_dump_json()}"


def test_the_outbox_and_the_log_are_in_the_state_folder(env_file: Path, tmp_path: Path) -> None:
    env_file.write_text(f"STATE_DIR={tmp_path}/state\n")
    settings = read_settings()
    assert settings.outbox == tmp_path / "state" / "alerts.db"
    assert settings.alert_log == tmp_path / "state" / "logs" / "alerts.log"
