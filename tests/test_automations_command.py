"""The command line of the automations."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from automations.__main__ import app

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def test_a_mistake_ends_with_status_1_and_one_line_per_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_URLS", "hunter22")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        result = CliRunner().invoke(app, ["apply"])
    assert result.exit_code == 1
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == ["NOTIFY_URLS", "http://127.0.0.1:1/api"]
    assert result.stdout == ""


def test_without_a_command_it_says_what_there_is() -> None:
    assert "apply" in CliRunner().invoke(app, []).output
