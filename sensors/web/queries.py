"""Queries behind the routes: each reads the ledger anew and returns views.

Days are those of the machine's time zone. Queries raise LedgerError or sqlite3.Error.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from tzlocal import get_localzone

from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.inbox.rejections import in_words
from sensors.ledger import Ledger
from sensors.ledger import files as ledger_files
from sensors.reports.arrivals import InboxCounts, activity_of, arrival_journey, books_of, latest
from sensors.reports.days import Day, midnight_before, read_day
from sensors.reports.files import (
    KnownFile,
    bad_files,
    count_needing_attention,
    file_by_id,
    needing_attention,
    read_alerts,
    read_needs_attention,
)
from sensors.runs.issues import RunIssue, undismissed
from sensors.runtime.clock import Clock
from sensors.runtime.text import readable
from sensors.web.attention import SHOWN_FILES, Attention, Services, attention_of, run_matter
from sensors.web.metrics import WatchStatus
from sensors.web.models import ArrivalView, FileView, InboxView, JourneyView, arrival_view, journey_view
from sensors.web.uploads import largest_upload


@dataclass(frozen=True)
class SensorState:
    """Callbacks to the running sensor; each returns the latest known state without waiting."""

    watches: Callable[[], Mapping[str, WatchStatus]] = dict
    """How the inboxes are watched; empty until they are."""
    services: Callable[[], Services | None] = lambda: None
    """The health of the services, or None while unknown."""
    run_issues: Callable[[], Sequence[RunIssue]] = tuple
    """The runs that need attention."""


@dataclass(frozen=True)
class Queries:
    """The queries of the page; each result but `attention` is read from one snapshot of the ledger."""

    settings: Settings
    inboxes: Sequence[Inbox]
    clock: Clock
    sensor: SensorState = SensorState()

    def inbox_views(self) -> list[InboxView]:
        """Return every inbox, in the order of the configuration."""
        with self._ledger() as ledger:
            return self._inbox_views(ledger)

    def inboxes_and_arrivals(self, limit: int) -> tuple[list[InboxView], list[ArrivalView]]:
        """Return every inbox and the latest arrivals, from the same snapshot."""
        with self._ledger() as ledger:
            return self._inbox_views(ledger), self._arrival_views(ledger, limit)

    def _inbox_views(self, ledger: Ledger) -> list[InboxView]:
        midnight, watches = self.midnight(), self.sensor.watches()
        books = books_of(ledger, [inbox.name for inbox in self.inboxes])
        return [
            self._inbox_view(ledger, inbox, books[inbox.name], midnight, watches.get(inbox.name))
            for inbox in self.inboxes
        ]

    def _inbox_view(
        self, ledger: Ledger, inbox: Inbox, books: InboxCounts, midnight: datetime, watch: WatchStatus | None
    ) -> InboxView:
        glance = activity_of(ledger, inbox.name, midnight)
        return InboxView(
            name=inbox.name,
            where=readable(inbox.where),
            watched_by=str(watch.mode) if watch is not None else "",
            being_written=in_words(watch.being_written) if watch is not None else "",
            patterns=inbox.patterns,
            max_bytes=largest_upload(inbox, self.settings.max_upload_bytes),
            books=books,
            files_today=glance.files_today,
            rows_today=glance.rows_today,
            oldest_waiting=glance.oldest_waiting,
            last_name=glance.last_name and readable(glance.last_name),
            last_seen=glance.last_seen,
            last_dismissed=glance.last_dismissed,
            done_file=inbox.done_file,
            rules=readable(inbox.shown_rules),
        )

    def arrivals(self, limit: int, inbox: str | None = None, before: datetime | None = None) -> list[ArrivalView]:
        """Return the latest arrivals, newest first."""
        with self._ledger() as ledger:
            return self._arrival_views(ledger, limit, inbox, before)

    def _arrival_views(
        self, ledger: Ledger, limit: int, inbox: str | None = None, before: datetime | None = None
    ) -> list[ArrivalView]:
        found = latest(ledger, limit, inbox=inbox, before=before)
        return [arrival_view(one, self.settings.prefect_page) for one in found]

    def journey(self, arrival_id: str, files: int = 200) -> JourneyView | None:
        """Return an arrival's journey with at most `files` of its files, or None if there is no such arrival."""
        with self._ledger() as ledger:
            found = arrival_journey(ledger, arrival_id, files)
        return found and journey_view(found, self.settings.prefect_page)

    def bad_files(self, limit: int, inbox: str | None = None) -> list[FileView]:
        """Return the files that were not loaded, latest first."""
        with self._ledger() as ledger:
            return [FileView.model_validate(file) for file in bad_files(ledger, limit, inbox)]

    def attention(self, services: Services | None = None) -> Attention:
        """Return everything that needs attention now, problems of the services first."""
        with self._ledger() as ledger:
            files = tuple(FileView.model_validate(file) for file in needing_attention(ledger, SHOWN_FILES))
            count = len(files) if len(files) < SHOWN_FILES else count_needing_attention(ledger)
            issues = undismissed(self.sensor.run_issues(), ledger_files.of_runs(ledger))
        sick = services.matters(self.settings) if services else ()
        runs = tuple(run_matter(issue, self.settings.prefect_page) for issue in issues)
        return attention_of(
            read_needs_attention(self.settings, 0), read_alerts(self.settings), files, count, sick, runs
        )

    def file(self, file_id: int) -> KnownFile | None:
        """Return one file with its path, or None if there is no such file."""
        with self._ledger() as ledger:
            return file_by_id(ledger, file_id)

    def day(self, day: date | None, inbox: str | None = None) -> Day:
        """Return the figures of a local day, by default today."""
        with self._ledger() as ledger:
            return read_day(ledger, day or self.midnight().date(), self.zone(), inbox)

    def midnight(self) -> datetime:
        """Return the start of the current local day."""
        return midnight_before(self.clock.utc(), self.zone())

    def zone(self) -> tzinfo:
        """Return the machine's named time zone; a fixed offset is wrong across a daylight saving change."""
        return get_localzone()

    def _ledger(self) -> AbstractContextManager[Ledger]:
        return Ledger.at_one_moment(self.settings.ledger_path)
