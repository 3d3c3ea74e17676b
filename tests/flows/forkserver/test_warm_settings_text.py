"""Prefect's settings as environment variables, made once: the same text as Prefect makes, whatever was asked before."""

from collections.abc import Iterator
from itertools import product

import pytest
from prefect.settings import PREFECT_API_URL, Settings, get_current_settings, temporary_settings

from flows.forkserver.settings_cache import keep

MAKE = Settings.to_environment_variables
FLAGS = ("exclude_unset", "include_secrets", "include_aliases")
WAYS = [dict(zip(FLAGS, flags, strict=True)) for flags in product([False, True], repeat=3)]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """Count what Prefect itself makes; leave it as it was."""
    made: list[Settings] = []

    def counted(settings: Settings, *flags: bool, **named: bool) -> dict[str, str]:
        made.append(settings)
        return MAKE(settings, *flags, **named)

    monkeypatch.setattr(Settings, "to_environment_variables", counted)
    keep()
    yield made
    monkeypatch.undo()
    assert Settings.to_environment_variables is MAKE


def test_a_text_is_made_once_and_is_prefects_own(made: list[Settings]):
    settings = get_current_settings()
    for way in [*WAYS, *WAYS]:
        assert settings.to_environment_variables(**way) == MAKE(settings, **way)
    assert len(made) == len(WAYS)


def test_keeping_twice_is_keeping_once(made: list[Settings]):
    keep()
    get_current_settings().to_environment_variables()
    get_current_settings().to_environment_variables()
    assert len(made) == 1


def test_who_changes_a_text_changes_his_own():
    settings = get_current_settings()
    settings.to_environment_variables()["PREFECT_HOME"] = "elsewhere"
    assert settings.to_environment_variables() == MAKE(settings)


def test_settings_that_are_changed_in_place_have_another_text():
    settings = get_current_settings().model_copy(deep=True)
    before = settings.to_environment_variables()
    settings.server.ui.show_promotional_content = not settings.server.ui.show_promotional_content
    assert settings.to_environment_variables() == MAKE(settings) != before


def test_other_settings_have_their_own_text_and_the_first_are_remembered(made: list[Settings]):
    outside = get_current_settings()
    outside.to_environment_variables(exclude_unset=True)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        inside = get_current_settings()
        assert inside.to_environment_variables(exclude_unset=True)["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert outside.to_environment_variables(exclude_unset=True) == MAKE(outside, exclude_unset=True)
    assert made == [outside, inside]


def test_equal_settings_of_which_others_are_set_have_their_own_text():
    settings = get_current_settings()
    same = settings.model_copy(deep=True)
    same.server.ui.show_promotional_content = settings.server.ui.show_promotional_content
    assert same == settings
    for one in (settings, same):
        assert one.to_environment_variables(exclude_unset=True) == MAKE(one, exclude_unset=True)


def test_the_hash_of_settings_is_prefects_own():
    settings = get_current_settings()
    kept = settings.hash_key()
    assert settings.hash_key() == kept == str(hash(tuple(MAKE(settings).items())))
