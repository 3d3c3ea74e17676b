"""Where alerts go, from the settings to the block."""

from pathlib import Path

import pytest

from automations.as_code import server
from automations.settings import PROJECT_ROOT, AlertSettings, read_settings

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction]
    for name in ("NOTIFY_URLS", "NOTIFY_FALLBACK_URLS", "STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))


def test_without_any_setting_alerts_go_to_the_log_below_the_projects_data() -> None:
    channels, problems = server.wanted(read_settings())
    assert problems == []
    assert [channel.reference for channel in channels] == ["apprise-alerts/alerts", "apprise-alerts/fallback"]
    for channel in channels:
        assert channel.block.urls.get_secret_value() == ""
        assert channel.block.log_file == str(PROJECT_ROOT / "data" / "logs" / "alerts.log")


def test_each_block_has_its_own_setting() -> None:
    settings = AlertSettings.model_validate(
        {"notify_urls": "json://first", "notify_fallback_urls": "json://second json://x"}
    )
    channels, _ = server.wanted(settings)
    assert [channel.block.urls.get_secret_value() for channel in channels] == ["json://first", "json://second json://x"]
    assert [channel.note.split(" and ")[0] for channel in channels] == ["goes to 1 URL", "goes to 2 URLs"]


def test_the_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("NOTIFY_URLS=json://file\nSTATE_DIR=elsewhere\n")
    monkeypatch.setenv("NOTIFY_URLS", "json://environment")
    settings = read_settings()
    assert settings.notify_urls.get_secret_value() == "json://environment"
    assert settings.alert_log == PROJECT_ROOT / "elsewhere" / "logs" / "alerts.log"


def test_a_url_that_cannot_be_used_is_reported_by_setting_and_position_only(tmp_path: Path) -> None:
    settings = AlertSettings.model_validate({"notify_urls": "json://127.0.0.1 hunter22", "state_dir": tmp_path})
    [fallback], [problem] = server.wanted(settings)
    assert fallback.name == "fallback"
    assert str(problem) == "NOTIFY_URLS: URL 2 has no scheme such as slack:// or mailto://"


def test_the_urls_are_in_no_text_form_of_the_settings() -> None:
    settings = AlertSettings.model_validate({"notify_urls": "json://me:hunter22@127.0.0.1"})
    assert "hunter22" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
