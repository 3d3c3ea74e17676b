"""Which deployments of a server are this project's: a server may have those of others as well."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sensors.runs.facts import RunFacts


def our_deployments(facts: RunFacts, root: Path) -> frozenset[str]:
    """Return the ids of the deployments that prefect.yaml names, or that use a work pool that it names.

    The latter may have been made by hand; the former stay ours when their work pool is deleted.
    """
    names, pools = _in_file(root)
    return frozenset(
        one["id"]
        for one in facts.deployments.values()
        if one["name"] in names or (one.get("work_pool_name") or "") in pools
    )


def _in_file(root: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of deployments and work pools in prefect.yaml; none if it cannot be read."""
    try:
        written: Any = yaml.safe_load((root / "prefect.yaml").read_text("utf-8"))
        deployments: list[Mapping[str, Any]] = written.get("deployments") or []
        names = frozenset(str(one["name"]) for one in deployments)
        pools = frozenset(str(one["work_pool"]["name"]) for one in deployments if one.get("work_pool"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return frozenset(), frozenset()
    return names, pools
