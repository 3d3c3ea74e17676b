"""The texts of an automation's alert, rendered where Prefect has not rendered them."""

from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from jinja2 import ChainableUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from automations.delivery.happening import Happening


def render(template: str, automation: str, happening: Happening, run: Mapping[str, Any] | None, page: str) -> str:
    """Return a template's text for an event, as Prefect's server makes it.

    `run` is the flow run that the event is about, as the API gives it, and `page` the address of Prefect's page.
    Raises jinja2.TemplateError for a template that uses what only the server has.
    """
    environment = ImmutableSandboxedEnvironment(undefined=ChainableUndefined)

    def ui_url(thing: Mapping[str, Any] | None) -> str | None:
        return f"{page}/runs/flow-run/{thing['id']}" if thing else None

    environment.filters.update(cast("dict[str, Any]", {"ui_url": ui_url}))
    return environment.from_string(template).render(
        event=happening, automation=SimpleNamespace(name=automation), flow_run=None if run is None else _with_times(run)
    )


def _with_times(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if name.endswith("_time") and isinstance(value, str) else value
        for name, value in run.items()
    }
