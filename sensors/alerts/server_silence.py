"""The server's silence: nobody but the sensor can tell of it, so it rings the bell itself."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from automations.alert_service import Ringer, server_back, server_silent
from sensors.runtime.clock_part import Clock


@dataclass
class ServerSilence:
    """Tells when the server has not answered for a while, and when it does again."""

    ringer: Ringer
    url: str
    patience: timedelta
    clock: Clock = field(default_factory=Clock)
    """It knows whether this process was suspended: no one listened to the server meanwhile."""
    _silent_since: datetime | None = None
    _is_told: bool = False
    _is_checked: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether the server did not answer when it was asked last."""
        return self._silent_since is not None

    def heard(self, now: datetime) -> None:
        """Take note that the server has answered."""
        if self._is_told or not self._is_checked:
            # After a restart of the sensor as well: whether somebody was told is in the outbox.
            self.ringer.post(server_back(self.url, now), now)
        self._silent_since, self._is_told, self._is_checked = None, False, True

    def not_heard(self, why: str, now: datetime) -> None:
        """Take note that the server has not answered."""
        self._silent_since = self.clock.not_before_resumed(min(self._silent_since or now, now))
        if not self._is_told and now - self._silent_since >= self.patience:
            posting = server_silent(self.url, self._silent_since, why, now)
            # A sensor that is started anew does not tell it again.
            if self.ringer.trouble_since(posting.cause.opens or "") is None:
                self.ringer.post(posting, now)
            self._is_told = True
