"""The cause of an alert, as the last line of its body tells it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from automations.delivery.models import MARK, AlertMetadata, split


def reported(**fields: Any) -> str:
    return MARK + json.dumps(fields)


def test_the_last_line_is_for_the_dispatcher_and_the_others_are_for_a_person() -> None:
    text, cause = split(
        f"Run: otter\nMessage: boom\n{reported(id='7/a', kind='run-failed', group='daily', tags=['env:prod'])}"
    )
    assert text == "Run: otter\nMessage: boom"
    assert (cause.id, cause.kind, cause.group, cause.tags) == ("7/a", "run-failed", "daily", ("env:prod",))


def test_white_space_after_the_last_line_changes_nothing() -> None:
    assert split(f"Run: otter\n\n{reported(id='7')}\n \n")[1].id == "7"
    assert split(f"Run: otter\n\n{reported(id='7')}\n \n")[0] == "Run: otter"


def test_a_body_may_be_that_line_alone() -> None:
    assert split(reported(id="7")) == ("", AlertMetadata(id="7"))


def test_without_a_word_about_it_every_alert_is_about_something_of_its_own() -> None:
    (text, one), (_, another) = split("Run: otter"), split("Run: otter")
    assert text == "Run: otter"
    assert one.id != another.id
    assert (one.kind, one.group, one.tags) == ("alert", "", ())


@pytest.mark.parametrize("earlier", ["", "\n", "\r\n", "\r", "\u2028", "\x85", "\x0b"])
def test_text_in_an_earlier_line_cannot_pass_for_the_last_one(earlier: str) -> None:
    hostile = f"boom{earlier}{reported(id='stolen', void=True)}{earlier}"
    text, cause = split(f"Message: {hostile}\n{reported(id='7')}")
    assert cause == AlertMetadata(id="7")
    assert "stolen" in text


@given(st.text())
def test_whatever_stands_before_it_the_last_line_counts(hostile: str) -> None:
    assert split(f"{hostile}\n{reported(id='7', group='daily')}") == (
        hostile.rstrip(),
        AlertMetadata(id="7", group="daily"),
    )


@given(st.text())
def test_whatever_the_values_are_they_come_back_as_they_were_and_stay_in_their_line(hostile: str) -> None:
    cause = split(f"Run: otter\n{reported(id='7', kind=hostile, tags=[hostile])}")[1]
    assert (cause.kind, cause.tags) == (hostile, (hostile,))


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"id": ""}', '{"id": "7", "type": "loud"}', '{"id": "7", "occurred": "yesterday"}']
)
def test_a_line_that_cannot_be_read_is_shown_to_no_one_and_the_alert_is_about_something_of_its_own(line: str) -> None:
    text, cause = split(f"Run: otter\n{MARK}{line}")
    assert text == "Run: otter"
    assert cause.id.startswith("alert/")


def test_a_place_without_a_name_belongs_to_no_group_and_the_rest_still_counts() -> None:
    assert split(reported(id="7", group=None, void=True))[1] == AlertMetadata(id="7", void=True)


def test_a_group_is_cut_as_the_dispatcher_names_its_digests_after_it() -> None:
    cause = split(reported(id="7", group="x" * 5000))[1]
    assert cause.id == "7"
    assert len(cause.group) == 200


def test_groups_that_differ_only_at_their_end_stay_apart() -> None:
    assert AlertMetadata(group="x" * 300 + "a").group != AlertMetadata(group="x" * 300 + "b").group


def test_every_alert_is_tagged_with_its_kind() -> None:
    assert AlertMetadata(kind="run-failed", tags=("env:prod",)).all_tags == ("env:prod", "alert:run-failed")


@pytest.mark.parametrize(
    "unless",
    [
        {"event": "e", "resource": "r", "after": "2026-11-24T09:00:00", "wait_seconds": 1},
        {"event": "e", "resource": "r", "after": "2026-11-24T09:00:00Z", "wait_seconds": 3601},
        {"event": "e", "resource": "r", "after": "2026-11-24T09:00:00Z", "wait_seconds": -1},
    ],
)
def test_an_event_is_waited_for_an_hour_at_most_from_a_moment_with_its_zone(unless: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlertMetadata.model_validate({"id": "7", "unless": unless})
