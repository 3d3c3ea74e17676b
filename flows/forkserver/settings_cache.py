"""Prefect's settings as environment variables: made once for as long as none of them changes.

Prefect 3.8.8 makes them anew for every use, by going through each of its models once for each of the models above it:
77 ms of CPU (measured). Its server does that twice for each action of an automation before the run is created, and its
worker twice for each run, each time for the very same settings. To tell that they are the same takes 0.2 ms.
"""

from dataclasses import dataclass
from typing import Any

from prefect.settings import Settings

_MOST = 8
"""How many texts are kept at most; a process has one settings object, or a few that it switches between."""


@dataclass(frozen=True)
class _Made:
    settings: Settings
    as_they_were: Settings
    """A copy, as settings can be changed in place."""
    how: tuple[object, ...]
    variables: dict[str, str]

    def answers(self, settings: Settings, how: tuple[object, ...]) -> bool:
        # The very object, as two of the same values need not have the same of them set.
        return self.settings is settings and self.how == how and self.as_they_were == settings


def keep() -> None:
    """Have this process keep what it has made of its settings.

    A version of Prefect that does it another way is left as it is.
    """
    make = getattr(Settings, "to_environment_variables", None)
    if make is None or hasattr(make, "kept"):
        return
    kept: list[_Made] = []

    def to_environment_variables(self: Settings, *flags: bool, **named: bool) -> dict[str, str]:
        how = (flags, tuple(sorted(named.items())))
        found = next((one for one in kept if one.answers(self, how)), None)
        if found is None:
            found = _Made(self, self.model_copy(deep=True), how, make(self, *flags, **named))
            kept.insert(0, found)
            del kept[_MOST:]
        return dict(found.variables)

    keeping: Any = to_environment_variables
    keeping.kept = kept
    Settings.to_environment_variables = keeping
