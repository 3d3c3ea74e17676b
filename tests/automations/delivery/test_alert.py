"""What an alert makes of text that others wrote."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.delivery.models import LINE_LIMIT, SUBJECT_LIMIT, Alert


@given(st.text(), st.text())
def test_no_control_character_survives_whatever_the_text(subject: str, body: str) -> None:
    alert = Alert.of(subject, body)
    shown = alert.subject + alert.body.replace("\n", "")
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert (alert.subject + alert.body).encode()


@given(st.text())
def test_a_subject_is_one_line_of_bounded_length_and_never_empty(subject: str) -> None:
    one_line = Alert.of(subject, "").subject
    assert 1 <= len(one_line) <= SUBJECT_LIMIT
    assert one_line.splitlines() == [one_line]


def test_a_line_break_in_a_subject_cannot_start_a_header_of_an_email() -> None:
    assert Alert.of("Failed\r\nBcc: all@example.org", "").subject == "Failed Bcc: all@example.org"


def test_a_file_name_cannot_reverse_the_text_around_it() -> None:
    assert Alert.of(None, "rejected \u202efdp.exe").body == "rejected \N{REPLACEMENT CHARACTER}fdp.exe"


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_a_value_cannot_begin_a_line_with_a_character_that_some_programs_treat_as_a_line_break(separator: str) -> None:
    assert Alert.of(None, f"File: a{separator}Reason: fine").body == "File: a\N{REPLACEMENT CHARACTER}Reason: fine"


def test_a_terminal_escape_sequence_is_shown_and_not_obeyed() -> None:
    assert Alert.of(None, "\x1b[2Jgone").body == "\N{REPLACEMENT CHARACTER}[2Jgone"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("get https://user:p4ss@host/x failed", "get https://***@host/x failed"),
        ("get https://user:p@ss@host/x failed", "get https://***@host/x failed"),
        ("https://host/x?api_key=abc&page=2", "https://host/x?api_key=***&page=2"),
        ("https://host/x?Access-Token=abc", "https://host/x?Access-Token=***"),
        ("write to ops@example.org", "write to ops@example.org"),
        ("https://host/x?mail=me@example.org", "https://host/x?mail=me@example.org"),
    ],
)
def test_credentials_in_a_url_are_masked_and_nothing_else(written: str, shown: str) -> None:
    assert Alert.of(None, written).body == shown


@pytest.mark.parametrize(
    "hostile",
    [
        "@everyone",
        "@here",
        "x@everyone",
        "@Here!",
        "@ops",
        "<!here>",
        "<@U024BE7LH>",
        "<#C024BE7LR>",
        "<&role>",
        "<at>",
        "<AT user_id='all'>",
        "<users/all>",
        "(@ops)",
    ],
)
def test_no_one_is_mentioned_and_the_text_reads_as_it_did(hostile: str) -> None:
    shown = Alert.of(hostile, f"file {hostile}.csv")
    for text in (shown.subject, shown.body):
        assert hostile not in text
        assert hostile in text.replace("\u2060", "")


def test_a_link_shows_where_it_leads() -> None:
    assert Alert.of(None, "[https://bank](https://evil)").body == "[https://bank]\u2060(https://evil)"
    assert Alert.of(None, "[https://bank][1]").body == "[https://bank]\u2060[1]"
    assert Alert.of(None, "<https://evil|bank>").body == "<\u2060https://evil|bank>"
    assert Alert.of(None, "<mailto:me@evil|x>").body.startswith("<\u2060mailto:")


@pytest.mark.parametrize(
    "harmless", ["me@example.org", "git@host:x", "a <b> c", "list[0] (x)", "https://***@host/x", "x < !y", "5 @ 7"]
)
def test_what_mentions_no_one_is_left_as_it_is(harmless: str) -> None:
    assert Alert.of(None, harmless).body == harmless


@given(st.text(alphabet="@<!&#](everyonhu. "))
def test_no_mention_survives_whatever_stands_around_it(text: str) -> None:
    shown = Alert.of(None, text).body
    assert not [one for one in ("<@", "<!", "<#", "<&", "](") if one in shown]


def test_a_line_without_end_does_not_hide_the_next_ones() -> None:
    first, second = Alert.of(None, "x" * 1_000_000 + "\nhttps://host/runs/1").body.splitlines()
    assert (len(first), first[-1], second) == (LINE_LIMIT, "…", "https://host/runs/1")
