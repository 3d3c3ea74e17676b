"""The summary that is printed when the stack is up."""

from pathlib import Path

from sensors.config.inboxes import Inbox
from sensors.config.settings import Auth, Settings
from sensors.stack.terminal import summary


def reported(tmp_path, **values):
    settings = Settings(state_dir=tmp_path, **values)
    return dict(summary(settings, (Inbox(name="metrics", path=tmp_path / "in"),), Path("here/.env")))


def test_without_notification_urls_it_says_plainly_where_alerts_stay(tmp_path):
    assert reported(tmp_path)["alerts"] == (
        f"alerts go only to {tmp_path / 'logs' / 'alerts.log'}; set NOTIFY_URLS in .env to receive them"
    )


def test_notification_urls_are_counted_and_never_shown(tmp_path):
    alerts = reported(tmp_path, notify_urls="json://me:secret@one ntfy://two")["alerts"]
    assert alerts.startswith("alerts go to 2 addresses")
    assert "secret" not in alerts


def test_it_says_where_the_credentials_are_but_not_what_they_are(tmp_path):
    log_in = reported(tmp_path, prefect_api_auth_string="me:mine")["log in"]
    assert "here/.env" in log_in
    assert "mine" not in log_in


def test_without_credentials_it_says_that_nothing_is_asked(tmp_path):
    assert "AUTH=off" in reported(tmp_path, auth=Auth.OFF)["log in"]


def test_every_inbox_is_named_with_its_folder(tmp_path):
    assert reported(tmp_path)["inbox"].startswith(str(tmp_path / "in"))


def test_both_pages_are_named_and_no_drop_page_where_no_sensor_runs(tmp_path):
    assert reported(tmp_path, sensor_port=4999)["drop page"] == "http://127.0.0.1:4999"
    assert reported(tmp_path, drop_page_url="https://files.example.com/")["drop page"] == "https://files.example.com"
    scale = {"profile": "scale", "sensors": 0, "api_servers": 0, "service_processes": 0}
    assert "drop page" not in reported(tmp_path, **scale, prefect_api_url="http://10.0.0.5:4200/api")
