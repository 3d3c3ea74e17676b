"""The books of the inboxes."""

from hypothesis import given
from hypothesis import strategies as st

from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.states import FileState
from sensors.reports.arrivals import InboxCounts, balance, read_counts


@given(st.dictionaries(st.sampled_from(list(FileState)), st.integers(0, 1000)))
def test_the_books_balance_whatever_the_counts(counts):
    books = balance(counts)
    assert books.seen == books.waiting + books.in_flight + books.loaded + books.rejected + books.failed
    assert books.seen == sum(counts.values()) - counts.get(FileState.WITHDRAWN, 0)


def test_an_inbox_has_books_before_anything_was_dropped(tmp_path):
    assert read_counts(Settings(state_dir=tmp_path)) == {"metrics": InboxCounts()}


def test_the_books_can_be_read_while_the_sensor_is_down(tmp_path):
    settings = Settings(state_dir=tmp_path)
    with Ledger(settings.ledger_path) as ledger:
        for n, state in enumerate(["seen", "seen", "withdrawn"]):
            ledger.change(
                "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, seen_at)"
                " VALUES ('metrics', ?, 'a', '1', '1', 1, 1, ?, '2026')",
                (str(n), state),
            )
    assert read_counts(settings) == {"metrics": InboxCounts(seen=2, waiting=2)}
