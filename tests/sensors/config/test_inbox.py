"""The configuration of the inboxes."""

from pathlib import Path

import pytest

from sensors.config.inboxes import InboxesError, read_inboxes
from sensors.config.settings import PROJECT_ROOT


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


def test_all_mistakes_are_reported_together_with_their_fields(tmp_path):
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
    ("text", "reported"),
    [
        ("inboxes: {}\n", "at least 1 item"),
        ("", r"inboxes\.yaml: expected an inbox at least, .*, got an empty file$"),
        ("# nothing\n", "got an empty file"),
        ("- a\n", r"inboxes\.yaml:1: the file: .*valid dictionary"),
        ("inboxes:\n  a: {empty: 2026-13-45}\n", r"inboxes\.yaml: expected YAML in UTF-8, got: "),
        ("a: \0", r"inboxes\.yaml: expected YAML in UTF-8, got: unacceptable character"),
        ("inboxes:\n  Bad Name: {}\n", "Bad Name"),
        ("inboxes: {a: [\n", r"inboxes\.yaml:2: expected YAML, got a mistake in it: expected the node content"),
        ("inboxes:\n  a: b: c\n", r"inboxes\.yaml:2: expected YAML, got a mistake in it: mapping values are not"),
        ("inboxes:\n  a: {path: same}\n  b: {path: same/below}\n", "is in inbox 'a'"),
        ("inboxes:\n  a: {path: same}\n  b: {path: same}\n", "is in inbox 'a'"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, reported):
    with pytest.raises(InboxesError, match=reported):
        read_inboxes(configured(tmp_path, text), tmp_path)


def test_a_mistake_is_reported_with_the_line_that_it_is_on_or_is_missing_from(tmp_path):
    text = (
        "inboxes:\n  one:\n    patterns:\n      - a\n      - [b]\n    expect:\n      at_least: 1\n  two: {path: one}\n"
    )
    file = configured(tmp_path, text)
    with pytest.raises(InboxesError) as raised:
        read_inboxes(file, tmp_path)
    assert [line.split(": ")[:2] for line in str(raised.value).splitlines()] == [
        [f"{file}:5", "inboxes.one.patterns.1"],
        [f"{file}:6", "inboxes.one.expect.cron"],
    ]


@pytest.mark.parametrize("text", ["inboxes: {a: [\n", "", "a: \0", "inboxes:\n  a: {max_files: 0}\n"])
def test_one_mistake_is_one_line(tmp_path, text):
    with pytest.raises(InboxesError) as raised:
        read_inboxes(configured(tmp_path, text), tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InboxesError, match=r"none\.yaml: cannot be read"):
        read_inboxes(tmp_path / "none.yaml", tmp_path)


@pytest.mark.parametrize("event", ["prefect.flow-run.Completed", "inbox", "inbox.", "inbox.a b", "inbox.*"])
def test_an_event_is_one_of_the_sensors_own(tmp_path, event):
    with pytest.raises(InboxesError, match=r"inboxes\.documents\.event"):
        read_inboxes(configured(tmp_path, f"inboxes:\n  documents: {{event: '{event}'}}\n"), tmp_path)
    (inbox,) = read_inboxes(configured(tmp_path, "inboxes:\n  documents: {event: inbox.document.ready}\n"), tmp_path)
    assert inbox.event == "inbox.document.ready"
