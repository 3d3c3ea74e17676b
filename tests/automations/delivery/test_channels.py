"""Channels: which URLs an alert goes to, and by what name they are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.delivery.channels import Route, channels, channels_for, read_routes

PROD, TEST, OTHERS = "json://127.0.0.1/prod", "json://127.0.0.1/test", "json://127.0.0.1/others"


def urls_for(*tags: str, routes: str = f"env:prod={PROD} env:test={TEST}") -> list[str]:
    return [one.url for one in channels_for(tags, [OTHERS], read_routes(routes))]


def test_a_tag_leads_to_its_urls_and_no_longer_to_the_others() -> None:
    assert urls_for("env:prod", "daily") == [PROD]
    assert urls_for("daily") == [OTHERS]
    assert urls_for() == [OTHERS]


def test_several_tags_lead_to_the_urls_of_each() -> None:
    assert urls_for("env:test", "env:prod") == [PROD, TEST]


def test_a_tag_may_have_several_urls_and_a_url_several_tags_and_has_the_alert_once() -> None:
    routes = f"env:prod={PROD} env:prod={TEST} daily={PROD}"
    assert urls_for("env:prod", "daily", routes=routes) == [PROD, TEST]


def test_a_tag_is_compared_as_it_is_written() -> None:
    assert urls_for("env:production") == urls_for("ENV:PROD") == [OTHERS]


def test_a_url_may_contain_equal_signs() -> None:
    [route] = read_routes("env:prod=json://127.0.0.1/?+X-Token=a=b&format=text")
    assert route == Route("env:prod", ("json://127.0.0.1/?+X-Token=a=b&format=text",))


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("json://me:hunter22@127.0.0.1", "route 1 is not of the form"),
        ("env:prod", "route 1 is not of the form"),
        ("env:prod=", "route 1 is not of the form"),
        ("=json://127.0.0.1", "route 1 is not of the form"),
        (f"env:prod={PROD} env:test=hunter22", "the URL of route 2 has no scheme"),
        (f"env:prod={PROD} env:test=nothing://hunter22", "the URL of route 2 (nothing://...)"),
    ],
)
def test_a_route_that_cannot_be_read_is_reported_by_its_position_without_its_url(text: str, reported: str) -> None:
    with pytest.raises(ValueError, match="route") as error:
        read_routes(text)
    assert reported in str(error.value)
    assert "hunter22" not in str(error.value)


def test_all_routes_that_are_wrong_are_reported_together() -> None:
    with pytest.raises(ValueError, match=r"route 1.*; .*route 3"):
        read_routes(f"a env:prod={PROD} b")


def test_a_channel_is_reported_by_its_position_and_service() -> None:
    assert [one.name for one in channels(("json://127.0.0.1", "discord://1234567890/abcdefghij"), "fallback ")] == [
        "fallback 1 (JSON)",
        "fallback 2 (Discord)",
    ]


def test_a_channel_is_the_same_after_its_password_was_changed_or_it_was_moved_in_its_list() -> None:
    before = channels(("json://me:wrong@127.0.0.1/a", "json://127.0.0.1/b"))
    after = channels(("json://127.0.0.1/b", "json://me:right@127.0.0.1/a"))
    assert [one.id for one in before] == [one.id for one in reversed(after)]


def test_urls_that_differ_in_their_secrets_only_are_channels_of_their_own() -> None:
    ids = [one.id for one in channels(("json://me:one@127.0.0.1", "json://me:two@127.0.0.1"))]
    assert len(set(ids)) == 2


def test_a_url_that_is_not_understood_is_a_channel_all_the_same_and_fails_when_it_is_used() -> None:
    [channel] = channels(("nothing://127.0.0.1",))
    assert channel.name == "1 (unknown service)"


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"]), min_size=6))
def test_neither_the_id_nor_the_text_form_of_a_channel_shows_a_password(password: str) -> None:
    [channel] = channels((f"json://me:{password}x7q@127.0.0.1",))
    assert f"{password}x7q" not in channel.id + channel.name + repr(channel)
