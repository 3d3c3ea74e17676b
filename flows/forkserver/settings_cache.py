"""Cache Prefect's settings in the form of environment variables until one of them changes.

Prefect 3.8.8 rebuilds the variables at every use and visits each of its models once for each of the models above it:
77 ms of CPU (measured). Its server does so twice for each action of an automation before the run is created, and its
worker twice for each run, always for the same settings. Comparing the settings takes 0.2 ms.
"""

from dataclasses import dataclass
from typing import Any

from prefect.settings import Settings

_MOST = 8
"""The most entries that are kept; a process has one settings object, or a few that it switches between."""


@dataclass(frozen=True)
class _Made:
    settings: Settings
    as_they_were: Settings
    """A copy, because settings can be changed in place."""
    how: tuple[object, ...]
    variables: dict[str, str]

    def answers(self, settings: Settings, how: tuple[object, ...]) -> bool:
        # The same object, because equal settings may differ in which values were set explicitly.
        return self.settings is settings and self.how == how and self.as_they_were == settings


def keep() -> None:
    """Patch Prefect's Settings in this process so that `to_environment_variables` is cached.

    A version of Prefect without that method is left unchanged.
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
