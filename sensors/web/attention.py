"""The page's list of everything that needs attention, each entry with its remedy, most urgent first."""

from dataclasses import dataclass

from sensors.config.admission import readable
from sensors.ledger.files import BlockedFile
from sensors.reports.arrivals import run_url
from sensors.reports.needs_attention import Alerts, NeedsAttention, StalledArrival
from sensors.runs.issues import RunIssue
from sensors.web.models import FileView

SHOWN_FILES = 4


@dataclass(frozen=True)
class AttentionItem:
    """A problem that needs attention, in words."""

    title: str
    detail: str
    mend: str
    href: str | None = None
    dismiss: str | None = None
    """The address to which the form that dismisses the problem is sent."""


@dataclass(frozen=True)
class Attention:
    """Everything that needs attention."""

    matters: tuple[AttentionItem, ...] = ()
    files: tuple[FileView, ...] = ()
    """The latest files that were not loaded and not dismissed."""
    file_count: int = 0
    """The total number of such files."""

    @property
    def count(self) -> int:
        """The total number of problems and files."""
        return len(self.matters) + self.file_count

    @property
    def more_files(self) -> int:
        """The number of files beyond those in `files`."""
        return self.file_count - len(self.files)


def attention_of(
    trouble: NeedsAttention,
    alerts: Alerts,
    files: tuple[FileView, ...],
    file_count: int,
    services: tuple[AttentionItem, ...] = (),
    runs: tuple[AttentionItem, ...] = (),
) -> Attention:
    """Combine all problems into one list; pure."""
    return Attention(
        (
            *services,
            *(_alert(line) for line in alerts.needs_a_person),
            *runs,
            *(_overdue(inbox, since) for inbox, since in trouble.overdue.items()),
            *(_stalled(arrival) for arrival in trouble.arrivals),
            *(_blocked(file) for file in trouble.blocked),
            *(_more_blocked(inbox, count) for inbox, count in trouble.more_blocked.items()),
        ),
        files,
        file_count,
    )


def run_matter(issue: RunIssue, prefect_page: str) -> AttentionItem:
    """Return the entry for a run that needs attention."""
    more = f", and {issue.more:,} more" if issue.more else ""
    title = f"{issue.title[0].upper()}{issue.title[1:]}{more}"
    mend = issue.mend.partition(", or `just dismiss")[0]  # the page has a button for that
    href = None if issue.run_id is None else run_url(prefect_page, issue.run_id)
    dismiss = f"/runs/{issue.key}/dismiss" if issue.is_dismissable else None
    return AttentionItem(readable(title), readable(issue.reason), mend, href, dismiss)


def _alert(line: str) -> AttentionItem:
    said, _, mend = line.partition("; ")
    title = "Alerts are perhaps delivered" if "are perhaps delivered" in said else "Alerts do not get through"
    return AttentionItem(title, readable(said), mend or "They are sent again until they get through.")


def _overdue(inbox: str, since: str) -> AttentionItem:
    return AttentionItem(
        f"Files for {inbox} are overdue",
        f"They were expected by {since}.",
        "Drop them below, or ask their sender.",
        f"#inbox-{inbox}",
    )


def _blocked(file: BlockedFile) -> AttentionItem:
    why, _, mend = file.reason.partition("; ")
    return AttentionItem(
        f"{readable(file.name)} cannot be taken from {file.inbox}",
        readable(why),
        mend or "It is tried again by itself.",
        f"#inbox-{file.inbox}",
    )


def _more_blocked(inbox: str, count: int) -> AttentionItem:
    return AttentionItem(
        f"{count} more {'file' if count == 1 else 'files'} cannot be taken from {inbox}",
        "They may not be moved.",
        "They are taken by themselves when that is mended.",
        f"#inbox-{inbox}",
    )


def _stalled(arrival: StalledArrival) -> AttentionItem:
    return AttentionItem(
        f"Arrival {arrival.id} has no run",
        f"It was announced {arrival.attempt} times: {readable(arrival.reason)}",
        "`just status` shows whether server and worker are well; it is announced again by itself.",
        f"/arrivals/{arrival.id}",
    )
