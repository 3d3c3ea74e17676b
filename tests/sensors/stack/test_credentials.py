"""The credentials of the API and the `.env` file that keeps them."""

import stat

import pytest
from dotenv import dotenv_values

from sensors.config.settings import Auth, Settings
from sensors.stack.credentials import AUTH_OFF, ensure_credentials, wrong_credentials
from sensors.stack.errors import StackError
from tests.other_user import as_user, needs_root, reachable_folder


def mode(file):
    return stat.S_IMODE(file.stat().st_mode)


def test_the_first_time_credentials_are_generated_reported_and_kept_in_a_private_file(tmp_path):
    env_file = tmp_path / ".env"
    access = ensure_credentials(Settings(state_dir=tmp_path), env_file, at_terminal=True)
    kept = dotenv_values(env_file)["PREFECT_API_AUTH_STRING"]
    assert access.settings.auth_string == kept
    assert kept.startswith("admin:")
    assert len(kept) > 25
    assert any(kept in notice for notice in access.notices)
    assert mode(env_file) == 0o600


def test_what_is_no_terminal_gets_the_place_of_the_credentials_and_not_the_credentials(tmp_path):
    access = ensure_credentials(Settings(state_dir=tmp_path), tmp_path / ".env", at_terminal=False)
    (reported,) = access.notices
    assert str(tmp_path / ".env") in reported
    assert access.settings.auth_string not in reported


def test_every_installation_gets_credentials_of_its_own(tmp_path):
    first, second = (
        ensure_credentials(Settings(state_dir=tmp_path), tmp_path / name, at_terminal=True).settings.auth_string
        for name in ("one", "two")
    )
    assert first != second


@pytest.mark.parametrize("before", ["# a comment\nAPI_PORT=4300\n", "API_PORT=4300"])
def test_what_stands_in_the_file_stays(tmp_path, before):
    env_file = tmp_path / ".env"
    env_file.write_text(before)
    ensure_credentials(Settings(state_dir=tmp_path), env_file, at_terminal=True)
    assert env_file.read_text().startswith(before)
    assert dotenv_values(env_file)["API_PORT"] == "4300"


def test_credentials_that_are_set_are_used_and_not_shown_again(tmp_path):
    settings = Settings(state_dir=tmp_path, prefect_api_auth_string="me:mine-alone")
    access = ensure_credentials(settings, tmp_path / ".env", at_terminal=True)
    assert access.settings.auth_string == "me:mine-alone"
    assert access.notices == ()
    assert not (tmp_path / ".env").exists()


def test_auth_off_asks_for_nothing_and_says_what_that_means(tmp_path):
    settings = Settings(state_dir=tmp_path, auth=Auth.OFF, prefect_api_auth_string="me:mine-alone")
    access = ensure_credentials(settings, tmp_path / ".env", at_terminal=True)
    assert access.settings.auth_string is None
    assert access.notices == (AUTH_OFF,)


def test_a_file_that_others_can_read_is_made_private_and_that_is_said(tmp_path):
    env_file = tmp_path / ".env"
    env_file.write_text("PREFECT_API_AUTH_STRING=me:mine-alone\n")
    env_file.chmod(0o644)
    access = ensure_credentials(
        Settings(state_dir=tmp_path, prefect_api_auth_string="me:mine-alone"), env_file, at_terminal=True
    )
    assert mode(env_file) == 0o600
    assert "private now" in access.notices[0]


@pytest.mark.parametrize(
    ("weak", "why"),
    [
        (":", "got no user"),
        (":long-enough-password", "got no user"),
        ("admin:", "it is empty"),
        ("admin:short", "it has fewer than 8 characters"),
        ("admin:change-me", "it is an example that everyone knows"),
        ("administrator:administrator", "it is the same as the user name"),
    ],
)
def test_credentials_that_anyone_could_guess_are_rejected_with_the_way_out(tmp_path, weak, why):
    settings = Settings(state_dir=tmp_path, prefect_api_auth_string=weak)
    with pytest.raises(StackError) as rejected:
        ensure_credentials(settings, tmp_path / ".env", at_terminal=True)
    [line] = rejected.value.lines
    assert line.startswith("PREFECT_API_AUTH_STRING: expected user:password in ASCII with at least 8 characters")
    assert why in line
    assert line.endswith("correct it, or remove it to have new credentials generated")
    assert wrong_credentials(settings) == [line]
    assert wrong_credentials(Settings(auth="off", prefect_api_auth_string=weak)) == []


def test_a_short_upload_token_is_rejected_together_with_short_credentials(tmp_path):
    settings = Settings(state_dir=tmp_path, prefect_api_auth_string="a:b", upload_token="change-me")
    assert [line.partition(":")[0] for line in wrong_credentials(settings)] == [
        "PREFECT_API_AUTH_STRING",
        "UPLOAD_TOKEN",
    ]


@pytest.mark.parametrize("unusable", ["nocolon", "mé:secret"])
def test_unusable_credentials_are_refused_without_being_shown(tmp_path, unusable):
    settings = Settings(state_dir=tmp_path, prefect_api_auth_string=unusable)
    with pytest.raises(StackError, match="user:password in ASCII") as refused:
        ensure_credentials(settings, tmp_path / ".env", at_terminal=True)
    assert unusable not in str(refused.value)


def test_credentials_do_not_show_in_the_settings_representation(tmp_path):
    assert "mine-alone" not in repr(Settings(state_dir=tmp_path, prefect_api_auth_string="me:mine-alone"))


@needs_root
@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (0o640, ()),
        (0o644, ("is readable by every user of this machine and cannot be made so",)),
        (0o664, ("must be private",)),
        (0o646, ("must be private",)),
    ],
)
def test_a_file_that_an_administrator_keeps_is_read_and_never_one_that_others_write(kept, said):
    with reachable_folder() as place:
        env_file = place / ".env"
        env_file.write_text("PREFECT_API_AUTH_STRING=me:mine-alone\n")
        env_file.chmod(kept)
        settings = Settings(state_dir=place, prefect_api_auth_string="me:mine-alone")

        def look():
            try:
                return ensure_credentials(settings, env_file, at_terminal=True).notices
            except StackError as error:
                return error.lines

        found = as_user(look)
    assert len(found) == len(said)
    assert all(text in line for text, line in zip(said, found, strict=True))
