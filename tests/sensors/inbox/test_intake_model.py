"""The intake as a model: any order of writing, looking, crashing and starting again keeps promises P1 and P3.

Real files, a real ledger, a clock turned by hand; a crash is a start from what is on the disk, at any kill point.
"""

import contextlib
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sensors.arrivals import move, staging
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox
from sensors.inbox import intake, rejections
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger, announcements, arrivals
from sensors.ledger.announcements import Announcement, Receipt
from sensors.ledger.states import ArrivalState, FileState
from sensors.reports.arrivals import balance
from tests.conftest import HandClock

NAMES = st.sampled_from(["a.csv", "b.csv", "north/c.csv", "bad.pdf"])


class Killed(BaseException):
    """The process died here."""


class IntakeMachine(RuleBasedStateMachine):
    """An inbox, its owners and its sensor."""

    @initialize(max_in_flight=st.integers(1, 2), max_files=st.integers(1, 3))
    def begin(self, max_in_flight: int, max_files: int) -> None:
        self.folder = Path(mkdtemp())
        self.inbox = Inbox(
            name="metrics",
            path=self.folder / "inbox",
            subfolders=True,
            max_in_flight=max_in_flight,
            max_files=max_files,
        )
        (self.inbox.path / "north").mkdir(parents=True)
        self.hand = HandClock()
        self.contents: dict[str, str] = {}
        """What lies in the inbox by its owners' will, by name; the text tells each file from all others."""
        self.open: dict[str, IO[str]] = {}
        self.taken_away: set[str] = set()
        self.written = 0
        self.kill_in: int | None = None
        for module in (intake, rejections, staging, move):
            module.kill_point = self.kill_point
        self.start()

    def kill_point(self, _place: str) -> None:
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.kill_in = None
                raise Killed

    def start(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.db")
        stager = Stager(self.ledger, self.folder / "arrivals", self.hand.clock)
        rejections = Rejections(
            self.inbox, self.ledger, FailedFolder(self.ledger, self.folder / "failed"), self.hand.clock
        )
        self.watch = Watch(self.inbox.path, polling=True)
        self.intake = Intake(self.inbox, self.watch, self.ledger, stager, rejections, self.hand.clock)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for writer in self.open.values():
                writer.close()
            self.settle_down()
            self.ledger.close()
            shutil.rmtree(self.folder)

    def text(self) -> str:
        self.written += 1
        return f"file {self.written}"

    # -- what the owners do

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        path = self.inbox.path / name
        if not path.exists():
            self.contents[name] = self.text()
            path.write_text(self.contents[name])

    @rule(name=NAMES)
    def begin_to_write(self, name: str) -> None:
        path = self.inbox.path / name
        if not path.exists():
            self.contents[name] = self.text()
            self.open[name] = path.open("w")
            self.open[name].write(self.contents[name])
            self.open[name].flush()

    @precondition(lambda self: getattr(self, "open", None))
    @rule(hinted=st.booleans())
    def finish_writing(self, hinted: bool) -> None:
        name, writer = self.open.popitem()
        writer.write(" and more")
        writer.close()
        self.contents[name] += " and more"
        if hinted:
            self.watch.completed(name)

    @rule(name=NAMES)
    def replace_by_rename(self, name: str) -> None:
        path = self.inbox.path / name
        if name in self.contents and name not in self.open and path.exists():
            self.taken_away.add(path.read_text())
            other = self.folder / "other"
            self.contents[name] = self.text()
            other.write_text(self.contents[name])
            other.replace(path)

    @rule(name=NAMES)
    def take_away(self, name: str) -> None:
        path = self.inbox.path / name
        if name not in self.open and path.exists():
            self.taken_away.add(path.read_text())
            path.unlink()

    # -- what the sensor does

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.1, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.hand.turn(seconds)
        self.look()

    @rule(points=st.integers(0, 8), seconds=st.sampled_from([0.3, 6.0]))
    def crash_and_start_again(self, points: int, seconds: float) -> None:
        self.kill_in = points
        self.hand.turn(seconds)
        with contextlib.suppress(Killed):
            self.intake.step()
        self.kill_in = None
        self.ledger.close()
        self.start()

    @rule()
    def runs_end(self) -> None:
        now = self.hand.now
        for arrival in arrivals.to_announce(self.ledger, now):
            intent = Announcement(f"{arrival.id}/{arrival.attempt + 1}", arrival.id, arrival.attempt + 1, now)
            announcements.record_intent(self.ledger, intent)
            announcements.record_receipt(self.ledger, Receipt(intent.event_id, intent.event_id, "run"), now)
        for arrival in arrivals.in_state(self.ledger, ArrivalState.RUNNING):
            announcements.record_outcome(self.ledger, arrival.id, ArrivalState.LOADED, (), None, now)

    def look(self) -> None:
        self.intake.step()

    # -- what must hold at every instant

    @invariant()
    def every_file_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "folder"):
            return
        roots = (self.inbox.path, self.folder / "arrivals")
        places = [path for root in roots for path in root.rglob("[!.]*") if path.is_file()]
        texts = [path.read_text() for path in places]
        assert len(texts) == len(set(texts)), "nothing is there twice"
        written = {f"file {n}" for n in range(1, self.written + 1)}
        known = {text.removesuffix(" and more") for text in texts}
        gone = {text.removesuffix(" and more") for text in self.taken_away}
        assert known | gone == written, "nothing is lost"

    @invariant()
    def nothing_is_taken_while_it_is_written(self) -> None:
        if not hasattr(self, "folder"):
            return
        for name, writer in self.open.items():
            path = self.inbox.path / name
            assert path.exists()
            assert os.path.samestat(path.stat(), os.fstat(writer.fileno()))

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "folder"):
            return
        rows = self.ledger.rows("SELECT state, count(*) AS n FROM files GROUP BY state")
        books = balance({FileState(row["state"]): row["n"] for row in rows})
        assert books.seen == books.waiting + books.in_flight + books.loaded + books.rejected + books.failed
        staged = self.ledger.rows("SELECT count(*) FROM files WHERE state IN ('staged', 'loaded')")[0][0]
        assert staged <= sum(1 for path in (self.folder / "arrivals").rglob("[!.]*") if path.is_file())

    def settle_down(self) -> None:
        """In the end everything that is left in peace is taken or refused."""
        self.open.clear()
        for _ in range(60):
            self.hand.turn(1.1)
            self.look()
            self.runs_end()
        left = [path.name for path in self.inbox.path.rglob("[!.]*") if path.is_file()]
        assert left in ([], ["bad.pdf"]), left
        rows: list[Any] = self.ledger.rows("SELECT name, state FROM files WHERE state <> 'withdrawn'")
        assert all(row["state"] in {"loaded", "rejected"} for row in rows), [tuple(row) for row in rows]
        on_disk = sum(1 for path in (self.folder / "arrivals").rglob("[!.]*") if path.is_file())
        assert sum(row["state"] == "loaded" for row in rows) == on_disk


IntakeMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_any_order_keeps_the_promises = IntakeMachine.TestCase
