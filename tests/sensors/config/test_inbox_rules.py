"""What a person reads who mistypes a rule of an inbox."""

import pytest

from sensors.config.inboxes import Duplicates, EmptyFiles, InboxesError, WatchChoice, read_inboxes


@pytest.mark.parametrize(
    ("rule", "field", "reported"),
    [
        ("watch: inotify", "watch", "'auto' or 'polling'"),
        ("empty: ignore", "empty", "'wait', 'reject' or 'take'"),
        ("duplicates: drop", "duplicates", "'load', 'skip' or 'reject'"),
        ("done_file: done", "done_file", "pattern"),
        ("max_file_bytes: 0", "max_file_bytes", "greater than or equal to 1"),
        ("keep_days: 0", "keep_days", "greater than 0"),
        ("subfolders: deep", "subfolders", "valid boolean"),
        ("max_in_flight: 0", "max_in_flight", "greater than or equal to 1"),
        ("expect: {cron: '0 8 * *'}", "expect.cron", "expected five fields such as"),
        ("expect: {cron: '0 25 * * *'}", "expect.cron", "expected five fields such as"),
        ("expect: {cron: '0 8 * * *', timezone: Berlin}", "expect.timezone", "such as Europe/Berlin"),
        ("expect: {cron: '0 8 * * *', at_least: 0}", "expect.at_least", "greater than or equal to 1"),
        ("expect: {timezone: UTC}", "expect.cron", "Field required"),
    ],
)
def test_a_mistyped_rule_is_reported_with_its_field_and_what_was_expected(tmp_path, rule, field, reported):
    file = tmp_path / "inboxes.yaml"
    file.write_text(f"inboxes:\n  metrics:\n    {rule}\n")
    with pytest.raises(InboxesError) as raised:
        read_inboxes(file, tmp_path)
    (line,) = str(raised.value).splitlines()
    assert f"inboxes.metrics.{field}: " in line
    assert reported in line


def test_every_rule_that_the_documentation_shows_can_be_set(tmp_path):
    file = tmp_path / "inboxes.yaml"
    file.write_text(
        "inboxes:\n  a:\n    subfolders: true\n    watch: polling\n    temporary: ['*.writing']\n    empty: take\n"
        "    done_file: .done\n    duplicates: skip\n    keep_days: 90\n    max_file_bytes: 10\n"
        "    expect: {cron: '0 8 * * 1-5', timezone: Europe/Berlin, at_least: 2}\n"
    )
    (inbox,) = read_inboxes(file, tmp_path)
    assert (inbox.watch, inbox.empty, inbox.duplicates) == (WatchChoice.POLLING, EmptyFiles.TAKE, Duplicates.SKIP)
    assert inbox.expect.at_least == 2


@pytest.mark.parametrize("mode", ["replace", "replace_same_name", "upsert", "delete_insert"])
def test_a_write_that_depends_on_the_order_lets_one_arrival_run_at_a_time(tmp_path, mode):
    file = tmp_path / "inboxes.yaml"
    key = "" if mode.startswith("replace") else ", key: id"
    file.write_text(f"inboxes:\n  a:\n    write: {{mode: {mode}{key}}}\n")
    (inbox,) = read_inboxes(file, tmp_path)
    assert inbox.at_once == 1
    file.write_text(f"inboxes:\n  a:\n    write: {{mode: {mode}{key}}}\n    max_in_flight: 2\n")
    with pytest.raises(InboxesError) as raised:
        read_inboxes(file, tmp_path)
    assert str(raised.value) == (
        f"{file}:4: inboxes.a.max_in_flight: expected 1, as {mode} needs arrivals in their order; leave it out (got 2)"
    )


def test_other_writes_keep_their_number_of_arrivals(tmp_path):
    file = tmp_path / "inboxes.yaml"
    file.write_text("inboxes:\n  a: {max_in_flight: 9}\n  b: {write: {mode: insert_new, key: id}}\n")
    assert [inbox.at_once for inbox in read_inboxes(file, tmp_path)] == [9, 4]


def test_the_rules_of_an_inbox_are_shown_in_a_line(tmp_path):
    file = tmp_path / "inboxes.yaml"
    file.write_text(
        "inboxes:\n  a: {}\n  b:\n    format: {encoding: cp1252, delimiter: ';'}\n"
        "    write: {mode: upsert, key: iban}\n    contract: freeze\n    rows: [1, 2000]\n"
    )
    assert [inbox.shown_rules for inbox in read_inboxes(file, tmp_path)] == [
        "",
        "csv, cp1252, ; | upsert by iban | freeze | 1 to 2,000 rows",
    ]
