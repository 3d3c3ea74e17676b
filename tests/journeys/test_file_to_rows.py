"""A file that is dropped into the inbox has its rows in the warehouse."""

import csv
import time
from pathlib import Path

import pytest
import vega_datasets

from tests.journeys.stack import Stack, wait_until
from tests.receiver import Receiver

DATASETS = Path(vega_datasets.__file__).parent / "_data"


def settled_books(stack: Stack, files: int) -> dict[str, int]:
    """Return the books once `files` files have their outcome."""
    return stack.books_when(
        lambda books: books["loaded"] + books["rejected"] + books["failed"] >= files,
        f"{files} files have their outcome",
    )


@pytest.mark.parametrize("dataset", ["airports.csv", "seattle-weather.csv"])
def test_every_row_of_a_real_dataset_arrives_once(stack: Stack, dataset: str):
    content = (DATASETS / dataset).read_bytes()
    expected = len(list(csv.reader(content.decode().splitlines()))) - 1
    before = stack.books()["loaded"]
    stack.drop(dataset, content)
    settled_books(stack, before + 1)
    found = stack.rows(f"SELECT count(*) FROM public.daily_metrics WHERE _file_name = '{dataset}'")
    assert found == [(expected,)]
    assert stack.rows(f"SELECT rows FROM public._loads WHERE file_name = '{dataset}'") == [(expected,)]


def test_a_file_is_taken_only_after_its_writer_closed_it(stack: Stack):
    path = stack.inbox / "slow.csv"
    stack.know_one_of(["written_by"])
    with path.open("w") as slow:
        slow.write("written_by,second\n")
        began = time.monotonic()
        second = 0
        while time.monotonic() - began < 5:
            slow.write(f"slow,{second}\n")
            slow.flush()
            second += 1
            time.sleep(0.25)  # this is the writer's own pace, not a wait
            assert path.exists(), "taken while it was being written"
    wait_until(lambda: not path.exists(), "the file is taken after it was closed", 5)
    count = "SELECT count(*) FROM public._loads WHERE file_name = 'slow.csv'"
    wait_until(lambda: stack.rows(count) == [(1,)], "the file is loaded")
    assert stack.rows("SELECT count(*), max(second) FROM public.daily_metrics WHERE _file_name = 'slow.csv'") == [
        (second, second - 1)
    ]


def test_a_bad_file_is_rejected_with_its_reason_and_somebody_hears_of_it(stack: Stack, receiver: Receiver):
    stack.drop("broken.csv", "date,orders\n2026-11-24,1\n2026-11-25,2,surplus\n")
    (message,) = wait_until(lambda: receiver.naming("broken.csv"), "the notification came")
    assert "1 of 1 files rejected" in message["message"]
    assert "line 3" in message["message"]
    books = stack.books_when(lambda books: books["rejected"] == 1, "the books say rejected")
    assert books["seen"] == sum(books[entry] for entry in ("waiting", "in_flight", "loaded", "rejected", "failed"))
    assert len(receiver.naming("broken.csv")) == 1
