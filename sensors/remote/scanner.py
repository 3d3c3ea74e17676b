"""The lookout of a remote inbox: everything is listed now and then, and the listing is all that is known."""

from collections.abc import Set
from dataclasses import replace

from sensors.config.admission_part import Admission
from sensors.config.inboxes import Inbox
from sensors.files import stability as settle
from sensors.files.identity import Identity
from sensors.files.stability import Writer
from sensors.inbox.pending_files import Look, LyingFiles
from sensors.inbox.rejections import Refusals
from sensors.inbox.scanner import Found
from sensors.remote.ruling import rule
from sensors.remote.source import RemoteOrigin
from sensors.runtime.clock_part import Clock
from sensors.runtime.duty_cycle import DutyCycle

AGAIN_SECONDS = 1.0
"""After which a file that could not be taken is listed again."""
LISTING_SHARE = 0.2
LONGEST_PAUSE_SECONDS = 60.0
"""A listing may take this share of the time, as each costs the store something; but the next one is no further away
than the longest pause, if the inbox is not configured to be listed more rarely."""


class RemoteLookout:
    """What lies in one remote inbox, as it was listed last.

    An object is complete as soon as it is listed: it is there whole or not at all. Of a file on an SFTP server nothing
    is known but its size and time; it is complete when a listing shows both unchanged for `unproven_quiet_seconds`.
    """

    def __init__(self, inbox: Inbox, origin: RemoteOrigin, refusals: Refusals, lying: LyingFiles, clock: Clock) -> None:
        """Files go into `lying`, and those that the inbox does not take into `refusals`."""
        self._inbox = inbox
        self._origin = origin
        self._store = origin.store
        self._refusals = refusals
        self._lying = lying
        self._clock = clock
        self._listing = DutyCycle(LISTING_SHARE, LONGEST_PAUSE_SECONDS)
        self._listed_at = float("-inf")
        self._listed: Set[str] = frozenset()
        self.scan_due = 0.0
        self.again: set[str] = set()

    def look(self, now: float) -> Found:
        """List everything if it is time to."""
        if self.again:
            self.again.clear()
            self.scan_due = min(self.scan_due, now + AGAIN_SECONDS)
        if now < self.scan_due:
            return Found()
        found = Found(is_whole=True)
        self._refusals.begin_scan()
        try:
            self._list(now, found)
        except OSError as error:
            found.trouble = error
        if self._inbox.done_file:
            self._lying.mark_done(list(self._lying.open), found.done, now)
        self._listed_at, self._listed = now, found.seen
        if found.trouble is not None:
            self.scan_due = 0.0  # whoever hears of it decides how long to wait
            return found
        found.gone = self._lying.gone(found.seen)
        self._origin.forget_all_but(found.seen)
        ended = self._clock.monotonic()
        self.scan_due = ended + max(self._inbox.rescan_seconds, self._listing.pause_after(ended - now))
        return found

    def prove(self, name: str, now: float) -> float | None:
        """Return when the file counts as complete as it was listed, or None: not before another listing."""
        writer = Writer.NONE if self._store.appears_whole else Writer.UNKNOWN
        return self._confirmed(name, settle.complete_at(self._lying.open[name], self._inbox, writer), now)

    def prove_unwanted(self, name: str, now: float) -> float | None:
        """Return when the file may be rejected as it was listed, or None: not before another listing."""
        return self._confirmed(name, settle.rejectable_at(self._lying.open[name], self._inbox, Writer.NONE), now)

    def _confirmed(self, name: str, earliest: float | None, now: float) -> float | None:
        if earliest is None or (earliest <= self._listed_at and name in self._listed):
            return earliest
        return max(earliest, self.scan_due, now + AGAIN_SECONDS)  # nobody has looked since

    def rest(self) -> None:
        """Do nothing: nothing was opened."""

    def _list(self, now: float, found: Found) -> None:
        done_file = self._inbox.done_file
        for file in self._store.listing(subfolders=self._inbox.subfolders):
            self._origin.beat()
            if done_file and file.name.endswith(done_file):
                found.done[file.name.removesuffix(done_file)] = file.identity.mtime_ns
            if file.is_claimed and file.name in self._origin.blocked:
                file = replace(file, is_claimed=False)  # noqa: PLW2901 - it is our own claim that could not be removed
            ruling = rule(file, self._inbox)
            if ruling.admission is not Admission.LEFT_ALONE:
                found.seen.add(file.name)
                self._see(file.name, file.identity, ruling.reason, now, found)
            elif ruling.is_temporary:
                found.temporary[file.name] = file.status.st_ctime

    def _see(self, name: str, identity: Identity, unwanted: str, now: float, found: Found) -> None:
        if self._refusals.covers(name, identity) and name not in self._lying:
            return
        whole = self._store.appears_whole
        known = self._lying.see(name, identity, now, completed=whole, renamed=whole, unwanted=unwanted)
        if known is not Look.KNOWN:
            (found.new if known is Look.NEW else found.changed).append(name)
