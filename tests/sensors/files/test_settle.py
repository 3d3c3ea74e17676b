"""When a file counts as complete."""

from hypothesis import given
from hypothesis import strategies as st

from sensors.config.inboxes import Inbox
from sensors.files.beneath import Identity
from sensors.files.stability import Observation, Writer, complete_at, observe

RULES = Inbox(name="metrics", path="/", grace_seconds=0.1, quiet_seconds=1, unproven_quiet_seconds=5)
SHORT = Identity(device=1, inode=2, size=10, mtime_ns=100)
GROWN = Identity(device=1, inode=2, size=20, mtime_ns=200)


def test_a_closed_file_is_complete_after_the_grace_period():
    seen = observe(None, SHORT, 10.0, completed=True)
    assert complete_at(seen, RULES, Writer.NONE) == 10.1


def test_a_file_whose_closing_was_not_noticed_is_complete_after_the_quiet_period():
    seen = observe(None, SHORT, 10.0, completed=False)
    assert complete_at(seen, RULES, Writer.NONE) == 11.0


def test_a_file_that_somebody_writes_is_never_complete_however_quiet():
    seen = Observation(SHORT, unchanged_since=-1e9, completed_at=-1e9)
    assert complete_at(seen, RULES, Writer.PRESENT) is None


def test_where_nothing_proves_that_no_one_writes_a_close_does_not_count():
    seen = observe(None, SHORT, 10.0, completed=True)
    assert complete_at(seen, RULES, Writer.UNKNOWN) == 15.0


def test_a_change_begins_the_wait_anew():
    seen = observe(observe(None, SHORT, 10.0, completed=False), GROWN, 10.9, completed=False)
    assert complete_at(seen, RULES, Writer.NONE) == 11.9


def test_a_change_after_the_close_makes_the_close_worthless():
    seen = observe(observe(None, SHORT, 10.0, completed=True), GROWN, 10.05, completed=False)
    assert complete_at(seen, RULES, Writer.NONE) == 11.05


def test_a_second_close_without_a_change_begins_the_grace_anew():
    seen = observe(observe(None, SHORT, 10.0, completed=True), SHORT, 10.05, completed=True)
    assert complete_at(seen, RULES, Writer.NONE) == 10.15


SIGHTINGS = st.lists(st.tuples(st.integers(0, 3), st.floats(0.001, 2.0), st.booleans()), min_size=1, max_size=30)


@given(SIGHTINGS, st.sampled_from([Writer.NONE, Writer.UNKNOWN]))
def test_no_file_is_complete_before_it_was_unchanged_for_the_shortest_period(sightings, writer):
    now, changed_at, size = 0.0, 0.0, None
    seen = None
    for grown_to, later, completed in sightings:
        now += later
        if grown_to != size:
            size, changed_at = grown_to, now
        seen = observe(seen, Identity(1, 2, grown_to, grown_to), now, completed=completed)
    earliest = complete_at(seen, RULES, writer)
    shortest = RULES.grace_seconds if writer is Writer.NONE else RULES.unproven_quiet_seconds
    assert earliest >= changed_at + shortest


@given(SIGHTINGS, st.sampled_from([Writer.NONE, Writer.UNKNOWN]))
def test_a_file_that_no_one_touches_any_more_is_complete_within_the_longest_period(sightings, writer):
    now, seen = 0.0, None
    for grown_to, later, completed in sightings:
        now += later
        seen = observe(seen, Identity(1, 2, grown_to, grown_to), now, completed=completed)
    longest = RULES.quiet_seconds if writer is Writer.NONE else RULES.unproven_quiet_seconds
    assert complete_at(seen, RULES, writer) <= now + longest
