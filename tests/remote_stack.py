"""The intake of one remote inbox as the daemon makes it, with a clock turned by hand."""

from dataclasses import dataclass, field
from pathlib import Path

from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.ledger import Ledger
from sensors.remote.open import open_store
from sensors.remote.scanner import Backoff, RemoteWatch
from sensors.remote.source import RemoteSource
from sensors.remote.store import Store
from tests.hand_clock import HandClock


def by_the_ledger(store: Store) -> Store:
    """Have a store do what one does that honours no conditions."""
    from sensors.remote.object_store import S3Store

    assert isinstance(store, S3Store)
    store.honours_claims = store.deletes_on_condition = False
    return store


@dataclass
class RemoteStack:
    """A sensor's ledger, arrivals and one inbox; a second one on another folder is another sensor."""

    folder: Path
    inbox: Inbox
    hand: HandClock
    store: Store | None = None
    origin: RemoteSource = field(init=False)
    ledger: Ledger = field(init=False)
    intake: Intake = field(init=False)
    step: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.folder / "ledger.db")
        self.restart()

    def restart(self) -> None:
        """Begin as after a crash: with nothing but the ledger."""
        clock = self.hand.clock
        self.origin = RemoteSource(self.inbox, self.store or open_store(self.inbox))
        stager = Stager(self.ledger, self.arrivals_dir, clock, self.origin)
        rejections = Rejections(self.inbox, self.ledger, FailedFolder(self.ledger, self.folder / "failed"), clock)
        self.intake = Intake(self.inbox, RemoteWatch(self.inbox, self.origin), self.ledger, stager, rejections, clock)
        self.step = Backoff(self.intake.step, self.origin, lambda: None)

    @property
    def arrivals_dir(self) -> Path:
        return self.folder / "arrivals"

    def pass_time(self, seconds: float, *, every: float = 1.0) -> None:
        """Let time pass on the clock, with a step now and then."""
        for _ in range(max(1, round(seconds / every))):
            self.step()
            self.hand.turn(every)
        self.step()

    def staged(self) -> dict[str, list[bytes]]:
        """Return the contents of all files at their addresses, by their names."""
        found: dict[str, list[bytes]] = {}
        for path in sorted(self.arrivals_dir.glob("*/*")):
            for file in sorted(path.rglob("[!.]*")):
                if file.is_file():
                    found.setdefault(str(file.relative_to(path)), []).append(file.read_bytes())
        return found

    def states(self) -> list[tuple[str, str]]:
        rows = self.ledger.rows("SELECT name, state FROM files ORDER BY id")
        return [(row["name"], row["state"]) for row in rows]

    def close(self) -> None:
        self.origin.store.close()
        self.ledger.close()
