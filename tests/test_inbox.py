"""The configuration of the inboxes."""

from pathlib import Path

import pytest

from sensors.inbox import InboxesError, read_inboxes
from sensors.settings import PROJECT_ROOT


def configured(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "inboxes.yaml"
    file.write_text(text)
    return file


def test_the_project_ships_one_inbox_named_metrics(tmp_path):
    (inbox,) = read_inboxes(PROJECT_ROOT / "sensors" / "inboxes.yaml", tmp_path)
    assert (inbox.name, inbox.path) == ("metrics", tmp_path / "metrics")


def test_an_inbox_may_be_a_folder_elsewhere(tmp_path):
    file = configured(tmp_path, f"inboxes:\n  orders: {{path: {tmp_path}/elsewhere, max_files: 7}}\n")
    (inbox,) = read_inboxes(file, tmp_path / "inbox")
    assert (inbox.path, inbox.max_files) == (tmp_path / "elsewhere", 7)


def test_every_mistake_is_told_at_once_with_its_field(tmp_path):
    file = configured(
        tmp_path, "inboxes:\n  one: {max_files: 0, colour: red}\n  two: {grace_seconds: soon, patterns: []}\n"
    )
    with pytest.raises(InboxesError) as raised:
        read_inboxes(file, tmp_path)
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "inboxes.one.max_files",
        "inboxes.one.colour",
        "inboxes.two.patterns",
        "inboxes.two.grace_seconds",
    ]
    assert "(got 0)" in lines[0]


def test_a_bad_name_or_inbox_does_not_hide_the_mistakes_of_another(tmp_path):
    file = configured(tmp_path, "inboxes:\n  one: {max_files: 0}\n  Bad Name: {}\n  two:\n")
    with pytest.raises(InboxesError) as raised:
        read_inboxes(file, tmp_path)
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "inboxes.one.max_files",
        "inboxes.Bad Name.name",
        "inboxes.two",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inboxes: {}\n", "at least 1 item"),
        ("", "valid dictionary"),
        ("inboxes:\n  Bad Name: {}\n", "Bad Name"),
        ("inboxes: {a: [\n", "expected YAML"),
        ("inboxes:\n  a: {path: same}\n  b: {path: same/below}\n", "lies in inbox 'a'"),
        ("inboxes:\n  a: {path: same}\n  b: {path: same}\n", "lies in inbox 'a'"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, told):
    with pytest.raises(InboxesError, match=told):
        read_inboxes(configured(tmp_path, text), tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InboxesError, match=r"none\.yaml: cannot be read"):
        read_inboxes(tmp_path / "none.yaml", tmp_path)
