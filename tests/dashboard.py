"""The dashboard of deploy/grafana/: what it asks Prometheus, in the words in which Grafana passes it on."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.prometheus_server import GRAFANA

DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text("utf-8"))
RANGE_SECONDS = 300
STEP_SECONDS = 5
"""What is shown: five minutes, a point every five seconds."""


@dataclass(frozen=True)
class Question:
    """What a panel asks."""

    panel: str
    ref: str
    expression: str
    is_instant: bool
    """Whether it shows what is now, and no time."""

    def __str__(self) -> str:
        return f"{self.panel} {self.ref}"


def questions() -> Iterator[Question]:
    """Yield what the panels ask, in their order."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield Question(panel["title"], target["refId"], target["expr"], target.get("instant", False))


def variables() -> dict[str, str]:
    """Return the dashboard's variables and what each is filled from."""
    found = {one["name"]: one["query"] for one in DASHBOARD["templating"]["list"]}
    return {name: query if isinstance(query, str) else query["query"] for name, query in found.items()}


def filled(expression: str, inboxes: str, scrape_seconds: int) -> str:
    """Return an expression with Grafana's variables filled in; `inboxes` is what `$inbox` stands for.

    >>> filled('rate(a{inbox=~"$inbox"}[$__rate_interval])', ".*", 15)
    'rate(a{inbox=~".*"}[60s])'
    """
    # https://grafana.com/docs/grafana/latest/datasources/prometheus/template-variables/
    rate_interval = max(STEP_SECONDS + scrape_seconds, 4 * scrape_seconds)
    values = {
        "__rate_interval": f"{rate_interval}s",
        "__interval": f"{STEP_SECONDS}s",
        "__range": f"{RANGE_SECONDS}s",
        "inbox": inboxes,
    }
    return re.sub(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}", lambda found: values[found[1] or found[2]], expression)
