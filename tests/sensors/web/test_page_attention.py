"""What needs attention: alerts, overdue files, arrivals without a run, then files; each with what mends it."""

from dataclasses import replace
from datetime import UTC, datetime

from sensors.ledger.files import BlockedFile
from sensors.reports.files import Alerts, NeedsAttention, StalledArrival
from sensors.runs.issues import IssueKind, RunIssue
from sensors.web.attention import Attention, AttentionItem, attention_of, run_matter


def test_the_most_urgent_comes_first_and_each_shows_what_mends_it():
    found = attention_of(
        NeedsAttention(arrivals=(StalledArrival("m-1", 4, "no receipt"),), overdue={"orders": "2026-11-24 08:00 CET"}),
        Alerts(3, ("alerts are not delivered to channel 1, 3 wait: refused; mend NOTIFY_URLS in .env",)),
        (),
        0,
    )
    assert [(matter.title, matter.detail) for matter in found.matters] == [
        ("Alerts do not get through", "alerts are not delivered to channel 1, 3 wait: refused"),
        ("Files for orders are overdue", "They were expected by 2026-11-24 08:00 CET."),
        ("Arrival m-1 has no run", "It was announced 4 times: no receipt"),
    ]
    assert all(matter.mend for matter in found.matters)
    assert found.matters[0].mend == "mend NOTIFY_URLS in .env"


ISSUE = RunIssue(
    IssueKind.FAILED,
    "r-1",
    "ETL/etl",
    "run otter of ETL/etl Failed at nine",
    "no source \x1b[2J",
    "`just prefect flow-run retry r-1` tries it again, or `just dismiss r-1`",
    datetime(2026, 11, 24, 9, tzinfo=UTC),
    "r-1",
    "otter",
    more=1200,
)


def test_a_run_that_failed_leads_to_its_page_at_prefect_and_can_be_dismissed():
    assert run_matter(ISSUE, "http://127.0.0.1:4200") == AttentionItem(
        "Run otter of ETL/etl Failed at nine, and 1,200 more",
        r"no source \x1b[2J",
        "`just prefect flow-run retry r-1` tries it again",
        "http://127.0.0.1:4200/runs/flow-run/r-1",
        "/runs/r-1/dismiss",
    )
    assert run_matter(replace(ISSUE, is_dismissable=False), "").dismiss is None


def test_everything_counts_also_the_files_that_are_not_shown():
    found = attention_of(NeedsAttention(overdue={"orders": "now"}), Alerts(), (), 7)
    assert (found.count, found.more_files) == (8, 7)
    assert Attention().count == 0


def test_a_file_that_may_not_be_moved_is_shown_with_what_mends_it():
    since = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
    blocked = BlockedFile("orders", "a\x01.csv", "/in/a.csv", "7", "Not permitted: it is sticky; `chmod -t /in`", since)
    found = attention_of(NeedsAttention(blocked=(blocked,), more_blocked={"orders": 2}), Alerts(), (), 0)
    assert [(matter.title, matter.detail, matter.mend) for matter in found.matters] == [
        ("a\\x01.csv cannot be taken from orders", "Not permitted: it is sticky", "`chmod -t /in`"),
        ("2 more files cannot be taken from orders", "They may not be moved.", found.matters[1].mend),
    ]
