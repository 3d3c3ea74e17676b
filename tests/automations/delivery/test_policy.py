"""The policy: who is told, how many messages at most, and when nobody is to be disturbed."""

from datetime import timedelta

import pytest

from automations.delivery.channels import ALERTS, FALLBACK, Policy
from tests.postings import LOCAL, NOW, at, policy

RESERVE, PROD = "json://127.0.0.1/reserve", "json://127.0.0.1/prod"
FULL = policy(
    LOCAL,
    fallback_urls=RESERVE,
    routes=f"env:prod={PROD}",
    silence="08:00-10:00 UTC",
    silence_except="env:prod alert:server-silent",
)


def test_every_url_of_every_list_is_a_channel() -> None:
    assert {one.url for one in FULL.all_channels.values()} == {LOCAL, RESERVE, PROD}


def test_a_url_in_several_lists_is_one_channel_that_is_named_after_the_first() -> None:
    everywhere = policy(LOCAL, fallback_urls=LOCAL, routes=f"env:prod={LOCAL}")
    assert [one.name for one in everywhere.all_channels.values()] == ["1 (JSON)"]


def test_the_fallback_block_leads_to_the_fallback_whatever_the_tags() -> None:
    assert [one.url for one in FULL.channels(FALLBACK, ["env:prod"])] == [RESERVE]
    assert [one.url for one in FULL.channels(ALERTS, ["env:prod"])] == [PROD]
    assert [one.url for one in FULL.channels(ALERTS, [])] == [LOCAL]


def test_the_hours_of_silence_hold_for_all_but_the_tags_that_are_excepted() -> None:
    assert FULL.silent_until([], NOW) == at(3600)
    assert FULL.silent_until(["env:test"], NOW) == at(3600)
    assert FULL.silent_until(["env:test", "env:prod"], NOW) is None
    assert FULL.silent_until(["alert:server-silent"], NOW) is None
    assert FULL.silent_until([], at(3600)) is None


def test_what_is_not_said_is_what_is_usual() -> None:
    assert Policy() == Policy.read(urls="", fallback_urls="", routes="", storm="5/10m", silence="", silence_except="")
    assert Policy().storm.window == timedelta(minutes=10)


@pytest.mark.parametrize("wrong", [{"storm": "often"}, {"silence": "at night"}, {"routes": "x"}])
def test_what_cannot_be_read_is_no_policy(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected|route"):
        policy(LOCAL, **wrong)


def test_no_url_is_in_its_text_form() -> None:
    secret = policy("json://me:hunter22@a", fallback_urls="json://hunter22@b", routes="t=json://c/hunter22")
    assert "hunter22" not in f"{secret} {secret!r}"
