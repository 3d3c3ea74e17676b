"""Values that are filled in when applying."""

from typing import Any

import pytest

from automations.as_code.files import Values, fill, find, missing

VALUES = Values({"PLACE": "Chicago", "TRICK": "{{ $PLACE }}"}, {"pause": 7, "many": ["a", 1]})


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("{{ $PLACE }}", "Chicago"),
        ("$PLACE", "Chicago"),
        ("in {{$PLACE}}, {{ prefect.variables.pause }} s", "in Chicago, 7 s"),
        ("{{ prefect.variables.pause }}", 7),
        ("{{ prefect.variables.many }}", ["a", 1]),
        ("{{ event.payload.x }} {{ $PLACE }}", "{{ event.payload.x }} Chicago"),
        ("costs $5, or $PLACE", "costs $5, or $PLACE"),
        ("{% if $PLACE %}", "{% if $PLACE %}"),
        ("{{ $TRICK }}!", "{{ $PLACE }}!"),
        ({"$PLACE": ["$PLACE", 3]}, {"$PLACE": ["Chicago", 3]}),
    ],
)
def test_placeholders_become_values_and_templates_stay(written: Any, filled: Any) -> None:
    assert fill(written, VALUES) == filled


def test_a_missing_value_is_reported_with_its_field_and_the_nearest_name() -> None:
    document = {"trigger": {"within": "{{ prefect.variables.puase }}"}, "actions": [{"body": "{{ $PLAEC }} $X"}, "$X"]}
    assert missing(document, VALUES) == [
        ("trigger.within", "the server has no variable 'puase'; did you mean 'pause'?"),
        ("actions[0].body", "the environment has no 'PLAEC'; did you mean 'PLACE'?"),
        ("actions[1]", "the environment has no 'X'; set it"),
    ]


def test_of_variables_that_are_not_known_yet_nothing_is_missing() -> None:
    document = {"a": "{{ prefect.variables.any }}"}
    assert [one.is_variable for one in find(document)] == [True]
    assert missing(document, Values()) == []
