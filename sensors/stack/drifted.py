"""Automations of ours that somebody has changed on the server since they were applied."""

from typing import Any

import httpx

from automations.as_code import drift
from sensors.config.settings import Settings
from sensors.stack.api import open_api

_AUTOMATIONS_A_PAGE = 200


def read_drift(settings: Settings) -> dict[str, str]:
    """Return how each of our automations was changed on the server, by its name.

    Empty while there is no usable answer: what is wrong with the server then the status tells anyway.
    """
    try:
        found = _ours(settings)
    except (httpx.HTTPError, ValueError):
        return {}
    return {one["name"]: how for one in found if (how := drift.drift(one))}


def _ours(settings: Settings) -> list[dict[str, Any]]:
    """Return our automations as the API has them. Raises httpx.HTTPError, ValueError."""
    found: list[dict[str, Any]] = []
    wanted = {"tags": {"all_": [drift.owner_mark(drift.OWNER)]}}
    with open_api(settings) as api:
        while len(found) % _AUTOMATIONS_A_PAGE == 0:
            answer = api.post(
                "/automations/filter", json={"automations": wanted, "limit": _AUTOMATIONS_A_PAGE, "offset": len(found)}
            ).raise_for_status()
            if not (page := answer.json()):
                break
            found += page
    return found
