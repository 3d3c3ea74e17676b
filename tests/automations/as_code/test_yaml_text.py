"""One YAML text: what it says, and where."""

import pytest

from automations.as_code.files import YamlTextError, parse, render

TEXT = """\
# a comment
name: one
trigger:
  match:
    prefect.resource.id: x
actions:
  - type: send-notification
    body: |-
      several
      lines
    subject: two
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("name", 2),
        ("trigger.match.prefect.resource.id", 5),
        ("actions[0].subject", 11),
        ("actions[0].missing", 7),
        ("actions[3].body", 6),
        ("nowhere", 2),
        ("", 2),
    ],
)
def test_the_line_is_that_of_the_field_or_of_what_it_is_missing_in(field: str, line: int) -> None:
    assert parse(TEXT).line_of(field) == line


def test_a_list_of_one_is_that_one_and_its_lines_are_right() -> None:
    text = parse("- name: one\n  actions: []\n")
    assert text.content == {"name": "one", "actions": []}
    assert text.line_of("actions") == 2


def test_a_key_that_stands_twice_is_reported_with_its_second_line() -> None:
    assert parse("a: 1\nb: {c: 1, c: 2}\na: 3\n").repeated == (("b.c", 2), ("a", 3))


def test_what_is_merged_in_is_no_repetition() -> None:
    text = parse("base: &base {a: 1}\nother:\n  <<: *base\n  a: 2\n")
    assert text.repeated == ()
    assert text.content["other"] == {"a": 2}


@pytest.mark.parametrize(
    ("text", "line"), [("a: [", 1), ("a: 1\nb: c: d", 2), ("a: &x\n  b: *x", 2), ("a: !!python/name:os.x", 1)]
)
def test_what_is_not_usable_is_reported_with_its_line(text: str, line: int) -> None:
    with pytest.raises(YamlTextError) as failure:
        parse(text)
    assert failure.value.line == line


def test_texts_of_several_lines_are_written_as_such() -> None:
    assert render({"body": "one\ntwo\n", "on": "yes"}) == "body: |\n  one\n  two\n'on': 'yes'\n"
