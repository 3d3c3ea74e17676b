"""Rotating credentials: what becomes of the `.env` file, and when it is left alone."""

import json
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from sensors.access.accounts import parse_accounts
from sensors.config.settings import Settings
from sensors.stack.credentials import rotate_credentials, with_values, wrong_credentials
from sensors.stack.errors import StackError
from sensors.stack.stop import RESTART, StopRequest

OLD = """\
# kept
API_PORT=4300
PREFECT_API_AUTH_STRING='me:old-password'  # mine
UPLOAD_TOKEN=old-token-1
PAGE_USERS="look=anna:old-password-1 drop=plant:old-password-2"
UPLOAD_TOKEN=old-token-2"""


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PREFECT_API_AUTH_STRING", "UPLOAD_TOKEN", "PAGE_USERS", "AUTH"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".env"
    file.write_text(OLD)
    monkeypatch.setenv("ENV_FILE", str(file))
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "data"))
    return file


def test_every_credential_that_is_set_is_new_and_users_roles_and_everything_else_stay(env_file, tmp_path):
    rotate_credentials()
    text, found = env_file.read_text(), dotenv_values(env_file)
    assert "old-" not in text
    assert text.startswith("# kept\nAPI_PORT=4300\n")
    assert text.count("UPLOAD_TOKEN=") == 1
    assert found["PREFECT_API_AUTH_STRING"].startswith("me:")
    accounts = parse_accounts(found["PAGE_USERS"])
    assert [(one.role.value, one.user) for one in accounts] == [("look", "anna"), ("drop", "plant")]
    assert wrong_credentials(Settings(_env_file=env_file, state_dir=tmp_path)) == []
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [".env"]


def test_a_rotation_is_recorded_by_the_names_of_the_variables_alone(env_file, tmp_path):
    rotate_credentials()
    lines = (tmp_path / "data" / "logs" / "audit.log").read_text()
    (line,) = map(json.loads, lines.splitlines())
    assert (line["action"], line["address"]) == ("credentials rotated", "terminal")
    assert line["variables"] == "PREFECT_API_AUTH_STRING UPLOAD_TOKEN PAGE_USERS"
    assert not any(value in lines for value in dotenv_values(env_file).values() if value and len(value) > 8)


def test_without_a_file_there_is_one_with_credentials_afterwards(env_file):
    env_file.unlink()
    rotate_credentials()
    assert dotenv_values(env_file)["PREFECT_API_AUTH_STRING"].startswith("admin:")
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


def test_a_file_behind_a_link_stays_behind_it(env_file, tmp_path):
    kept = tmp_path / "kept.env"
    env_file.rename(kept)
    env_file.symlink_to(kept)
    rotate_credentials()
    assert env_file.is_symlink()
    assert "old-" not in kept.read_text()


def test_what_the_environment_sets_or_auth_off_leaves_without_use_is_rejected_and_nothing_changes(
    env_file, monkeypatch
):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:from-a-secret")
    with pytest.raises(StackError, match="got it from the environment"):
        rotate_credentials()
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("AUTH", "off")
    with pytest.raises(StackError, match="no credentials to rotate"):
        rotate_credentials()
    assert env_file.read_text() == OLD


def test_a_value_with_spaces_is_quoted_and_a_line_without_an_end_gets_one():
    assert with_values("A=1", {"B": "2 3"}) == 'A=1\nB="2 3"\n'


def test_a_wish_to_stop_wins_over_a_restart():
    stop = StopRequest()
    stop._on_signal(RESTART, None)
    assert stop.wait(0)
    assert stop.is_restart
    stop.ask()
    assert not stop.is_restart
