"""The end of a log, and what is appended to it, whatever becomes of the file."""

from contextlib import ExitStack, closing

import pytest

from sensors.cli.logs import LogTail


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "sensor.log"
    path.write_text("".join(f"line {n}\n" for n in range(20_000)))
    return path


@pytest.fixture
def tail_of():
    """Make tails that are closed in the end."""
    with ExitStack() as tails:
        yield lambda log: tails.enter_context(closing(LogTail(log)))


def append(log, text):
    with log.open("a") as opened:
        opened.write(text)


def test_the_last_lines_are_read_from_the_end(log, tail_of):
    assert tail_of(log).last(2) == ["line 19998", "line 19999"]
    assert len(tail_of(log).last(15_000)) == 15_000
    assert len(tail_of(log).last(30_000)) == 20_000
    assert tail_of(log).last(0) == []


def test_what_is_written_then_comes_once(log, tail_of):
    tail = tail_of(log)
    tail.last(1)
    assert tail.more() == []
    append(log, "one\ntwo\n")
    assert tail.more() == ["one", "two"]
    assert tail.more() == []


def test_half_a_line_waits_for_its_other_half(log, tail_of):
    tail = tail_of(log)
    append(log, "half ")
    tail.last(1)
    append(log, "and whole\n")
    assert tail.more() == ["half and whole"]


def test_a_log_that_was_put_aside_is_read_to_its_end_and_then_the_new_one(log, tail_of):
    tail = tail_of(log)
    tail.last(1)
    append(log, "last of the old\n")
    log.rename(log.with_name("sensor.log.1"))
    assert tail.more() == ["last of the old"]
    log.write_text("first of the new\n")
    assert tail.more() == ["first of the new"]


def test_a_log_that_was_emptied_is_read_from_its_beginning(log, tail_of):
    tail = tail_of(log)
    tail.last(1)
    log.write_text("anew\n")
    assert tail.more() == ["anew"]


def test_a_log_that_is_not_there_yet_may_come(tmp_path, tail_of):
    tail = tail_of(tmp_path / "warm.log")
    assert tail.last(5) == []
    assert tail.more() == []
    (tmp_path / "warm.log").write_text("began\n")
    assert tail.more() == ["began"]
