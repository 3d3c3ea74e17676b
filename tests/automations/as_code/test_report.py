"""What a plan or an apply tells on a terminal."""

import io

from rich.console import Console

from automations.as_code.diff import AutomationChange, ChangeOutcome, Changes, Difference, contents, differences, show


def reported(*changes: AutomationChange, done: bool = False, width: int = 100) -> list[str]:
    out = io.StringIO()
    show(Changes(changes, done), Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def updated(*found: Difference, note: str = "") -> AutomationChange:
    return AutomationChange("automation", "watch", ChangeOutcome.UPDATED, None, note, found)


def test_each_field_is_shown_with_its_old_and_its_new_value() -> None:
    found = differences({"enabled": False, "a": [{"b": 1}, {"c": 2}]}, {"enabled": True, "a": [{"b": 2}], "d": "x"})
    lines = reported(updated(*found, note="disabled on the server since the last apply"))
    assert lines[:5] == [
        "~ automation watch: update (disabled on the server since the last apply)",
        "    ~ enabled: false -> true",
        "    ~ a[0].b: 1 -> 2",
        '    - a[1]: {"c": 2}',
        '    + d: "x"',
    ]


def test_texts_of_several_lines_are_compared_line_by_line() -> None:
    lines = reported(updated(Difference("actions[0].body", "one\ntwo\nthree\nfour", "one\n2\nthree\nfour")))
    assert lines[1:6] == ["    ~ actions[0].body:", "         one", "        -two", "        +2", "         three"]


def test_a_difference_that_lines_do_not_show_is_reported_all_the_same() -> None:
    assert reported(updated(Difference("body", "a\nb", "a\nb\n")))[1] == '    ~ body: "a\\nb" -> "a\\nb\\n"'


def test_of_a_secret_only_its_change_is_reported() -> None:
    assert reported(updated(Difference("urls", is_secret=True)))[1] == "    ~ urls: changed (secret, not shown)"


def test_what_is_new_is_shown_with_everything_that_it_says() -> None:
    change = AutomationChange(
        "automation", "new", ChangeOutcome.CREATED, None, "", tuple(contents({"a": {"b": "x", "c": []}, "d": 0}))
    )
    assert reported(change)[:3] == ["+ automation new: create", '    + a.b: "x"', "    + d: 0"]


def test_neither_markup_nor_control_characters_of_others_work() -> None:
    name = "[red]\x1b[31mname[/red]"
    lines = reported(AutomationChange("automation", name, ChangeOutcome.DELETED, None, "no file has it"), done=True)
    assert lines[0] == r"- automation [red]\x1b[31mname[/red]: deleted (no file has it)"


def test_the_end_counts_what_there_is_to_do() -> None:
    changes = [AutomationChange("automation", str(outcome), outcome) for outcome in ChangeOutcome]
    assert reported(*changes)[-1] == "Plan: 1 to create, 1 to update, 1 to delete, 1 unchanged."
    assert reported(*changes, done=True)[-1] == "Applied: 1 created, 1 updated, 1 deleted, 1 unchanged."
    assert reported()[-1] == "Nothing to do: the server has what the files say."


def test_a_narrow_terminal_shows_everything_in_whole_words() -> None:
    note = "goes only to the alert log; set NOTIFY_URLS to send it"
    text = " ".join(
        reported(AutomationChange("block", "apprise-alerts/alerts", ChangeOutcome.UNCHANGED, None, note), width=60)
    )
    assert all(word in text for word in [*note.split(), "apprise-alerts/alerts", "unchanged"])
