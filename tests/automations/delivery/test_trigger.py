"""Which events fire an automation: our verdict is Prefect's."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from automations.delivery.events import PrefectEvent, Resource, fires

OCCURRED = datetime(2026, 3, 1, 15, 0, 12, tzinfo=UTC)
REACTIVE = {"type": "event", "posture": "Reactive", "threshold": 1, "within": 0}

# Few words, so that what is wanted and what is there meet now and then.
WORDS = ("a", "b", "a.b", "a.b.c", "ab", "a.*", "*", "*.b", "a[b]", "[ab]", "?", "!a", "!a.*", "!*", ".", "a+")
words = st.sampled_from(WORDS)
labels = st.sampled_from(["prefect.resource.id", "prefect.resource.name", "prefect.resource.role", "kind"])
specifications = st.dictionaries(labels, st.one_of(words, st.lists(words, max_size=3)), max_size=3)
triggers = st.fixed_dictionaries(
    {
        "expect": st.lists(words, max_size=3),
        "match": specifications,
        "match_related": st.one_of(specifications, st.lists(specifications, max_size=3)),
    }
)
values = st.sampled_from(["a", "b", "a.b", "a.b.c", "ab", "*", "a[b]", "!a", "", "A"])
resources = st.builds(
    lambda identity, more: {"prefect.resource.id": identity, **more},
    values.filter(bool),
    st.dictionaries(labels, values, max_size=3),
).filter(lambda one: bool(one["prefect.resource.id"]))
related = st.builds(lambda one, role: {**one, "prefect.resource.role": role}, resources, values.filter(bool))
events = st.tuples(values, resources, st.lists(related, max_size=3))


def verdicts(trigger: dict[str, Any], event: str, resource: dict[str, str], others: list[dict[str, str]]):
    received = ReceivedEvent(
        id=UUID(int=9),
        occurred=OCCURRED,
        event=event,
        resource=resource,
        related=others,
    )
    happening = PrefectEvent("9", event, OCCURRED, Resource(resource), [Resource(one) for one in others])
    return fires(trigger, happening), EventTrigger.model_validate(trigger).covers(received)


@given(triggers, events)
def test_our_verdict_is_prefects_whatever_the_trigger_and_the_event(
    trigger: dict[str, Any], event: tuple[str, dict[str, str], list[dict[str, str]]]
) -> None:
    ours, theirs = verdicts(REACTIVE | trigger, *event)
    assert ours is theirs


@given(triggers, events)
def test_it_is_prefects_of_a_trigger_as_the_server_gives_it_too(
    trigger: dict[str, Any], event: tuple[str, dict[str, str], list[dict[str, str]]]
) -> None:
    stored = EventTrigger.model_validate(REACTIVE | trigger).model_dump(mode="json")
    ours, theirs = verdicts(stored, *event)
    assert ours is theirs


@pytest.mark.parametrize(
    "other",
    [
        {"posture": "Proactive", "within": 60},
        {"threshold": 2, "within": 60},
        {"after": ["a"]},
        {"type": "compound", "triggers": []},
        {"type": "sequence", "triggers": []},
    ],
)
def test_what_counts_events_or_waits_for_their_absence_is_left_to_prefect(other: dict[str, Any]) -> None:
    happening = PrefectEvent("9", "a", OCCURRED, Resource({"prefect.resource.id": "a"}))
    assert fires({**REACTIVE, "expect": ["a"]}, happening)
    assert not fires({**REACTIVE, "expect": ["a"], **other}, happening)
