"""What happened, as an automation sees it: a Prefect event, whether Prefect tells of it or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class Resource(dict[str, str]):
    """The labels of a resource; its id and name are at hand for templates, as in Prefect's own events."""

    @property
    def id(self) -> str:
        """The resource's id, such as `prefect.flow-run.<uuid>`."""
        return self.get("prefect.resource.id", "")

    @property
    def name(self) -> str | None:
        """The resource's name."""
        return self.get("prefect.resource.name")

    @property
    def role(self) -> str:
        """The role of a related resource."""
        return self.get("prefect.resource.role", "")


@dataclass(frozen=True)
class Happening:
    """An event; templates read it as they read Prefect's."""

    id: str
    event: str
    occurred: datetime
    resource: Resource
    related: Sequence[Resource] = ()
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def resource_in_role(self) -> dict[str, Resource]:
        """The first related resource of each role."""
        return {role: ones[0] for role, ones in self.resources_in_role.items()}

    @property
    def resources_in_role(self) -> dict[str, list[Resource]]:
        """The related resources of each role."""
        found: dict[str, list[Resource]] = {}
        for one in self.related:
            found.setdefault(one.role, []).append(one)
        return found
