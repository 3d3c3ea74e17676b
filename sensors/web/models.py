"""Response models for inboxes, arrivals and files, shared by the HTML pages, the stream and the JSON API."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from sensors.ledger.states import ArrivalState, FileState
from sensors.reports.arrivals import ArrivalJourney, ArrivalSummary, InboxCounts, run_url
from sensors.runtime.text import readable

Escaped = Annotated[str, AfterValidator(readable)]
"""A text with unprintable characters escaped."""


class View(BaseModel):
    """Base of all response models, filled from the attributes of what they show. Times are UTC."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class InboxView(View):
    """An inbox with its file counts, and the rules by which the page checks a file before it uploads it."""

    name: str
    where: str
    watched_by: str
    being_written: str = ""
    """A sentence about the files that have temporary names, or empty."""
    patterns: tuple[str, ...]
    max_bytes: int
    books: InboxCounts
    files_today: int
    rows_today: int
    oldest_waiting: datetime | None
    last_name: str | None
    last_seen: datetime | None
    last_dismissed: datetime | None
    """When a user last dismissed a file; no other field changes then, and the stream sends only changed views."""
    done_file: str | None = None
    """The suffix of done files, each of which marks another file as complete; they are uploaded too."""
    rules: str = ""
    """The rules by which its files are read and loaded, in a line."""


class ArrivalView(View):
    """An arrival; `run_url` is the address of its run on Prefect's page."""

    id: str
    inbox: str
    state: ArrivalState
    title: Escaped
    files: int
    bad: int
    size: int
    rows: int | None
    attempt: int
    reason: Escaped | None
    seen_at: datetime | None
    created_at: datetime
    announced_at: datetime | None
    receipt_at: datetime | None
    ended_at: datetime | None
    seconds_to_run: float | None
    seconds_to_end: float | None
    run_name: str | None
    run_url: str | None = None
    has_ended: bool


class FileView(View):
    """A file of an arrival, or one that was rejected before."""

    id: int
    name: Escaped
    inbox: str
    arrival_id: str | None
    state: FileState
    size: int
    rows: int | None
    reason: Escaped | None
    seen_at: datetime
    ended_at: datetime | None
    dismissed_at: datetime | None
    """When a user dismissed it from the list of files that need attention."""


class StepView(View):
    """A step of a journey; `at` is None until it is reached."""

    name: str
    at: datetime | None


class AnnouncementView(View):
    """One announcement and its result."""

    attempt: int
    intended_at: datetime
    confirmed_at: datetime | None
    failure: Escaped | None
    run_url: str | None = None


class JourneyView(View):
    """An arrival with its steps, its announcements and as many of its files as were requested."""

    arrival: ArrivalView
    steps: tuple[StepView, ...]
    files: tuple[FileView, ...]
    announcements: tuple[AnnouncementView, ...]


def arrival_view(arrival: ArrivalSummary, prefect_page: str) -> ArrivalView:
    """Return the view of an arrival."""
    url = arrival.run_id and run_url(prefect_page, arrival.run_id)
    return ArrivalView.model_validate(arrival).model_copy(update={"run_url": url})


def journey_view(journey: ArrivalJourney, prefect_page: str) -> JourneyView:
    """Return the view of an arrival's journey."""
    return JourneyView(
        arrival=arrival_view(journey.arrival, prefect_page),
        steps=tuple(StepView(name=name, at=at) for name, at in journey.steps()),
        files=tuple(map(FileView.model_validate, journey.files)),
        announcements=tuple(
            AnnouncementView.model_validate(one).model_copy(
                update={"run_url": one.run_id and run_url(prefect_page, one.run_id)}
            )
            for one in journey.announcements
        ),
    )
