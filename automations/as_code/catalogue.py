"""What a server has that files refer to by name, and its automations."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.schemas.automations import Automation

from automations.as_code.references import Catalogue, Kind

T = TypeVar("T")

# The most that Prefect's API returns at once.
_PAGE = 200


def read_catalogue(client: SyncPrefectClient, kinds: Iterable[Kind] = Kind) -> Catalogue:
    """Return the names and ids of everything of some kinds; of automations those by `read_automations`."""
    return {kind: _READ[kind](client) for kind in kinds if kind in _READ}


def read_automations(client: SyncPrefectClient) -> list[Automation]:
    """Return all automations of the server, the oldest first."""
    newest_first = _all(client.read_automations, sort=AutomationSort.CREATED_DESC)
    return newest_first[::-1]


def read_variables(client: SyncPrefectClient, names: Iterable[str]) -> dict[str, Any]:
    """Return the variables of these names that the server has; if one is missing also others, to choose from."""
    found = {name: client.read_variable_by_name(name) for name in sorted(names)}
    others = [] if all(found.values()) else client.read_variables(limit=_PAGE)
    return {one.name: one.value for one in [*others, *found.values()] if one}


def _flows(client: SyncPrefectClient) -> dict[str, UUID]:
    return {flow.name: flow.id for flow in _all(client.read_flows)}


def _deployments(client: SyncPrefectClient) -> dict[str, UUID]:
    flows = {id_: name for name, id_ in _flows(client).items()}
    return {f"{flows.get(one.flow_id, '?')}/{one.name}": one.id for one in _all(client.read_deployments)}


def _blocks(client: SyncPrefectClient) -> dict[str, UUID]:
    documents = _all(client.read_block_documents, include_secrets=False)
    return {f"{one.block_type.slug}/{one.name}": one.id for one in documents if one.block_type}


def _work_pools(client: SyncPrefectClient) -> dict[str, UUID]:
    return {pool.name: pool.id for pool in _all(client.read_work_pools)}


def _work_queues(client: SyncPrefectClient) -> dict[str, UUID]:
    return {f"{queue.work_pool_name}/{queue.name}": queue.id for queue in _all(client.read_work_queues)}


_READ: dict[Kind, Callable[[SyncPrefectClient], dict[str, UUID]]] = {
    Kind.FLOW: _flows,
    Kind.DEPLOYMENT: _deployments,
    Kind.BLOCK: _blocks,
    Kind.WORK_POOL: _work_pools,
    Kind.WORK_QUEUE: _work_queues,
}


def _all(read: Callable[..., list[T]], **options: Any) -> list[T]:
    found: list[T] = []
    while page := read(limit=_PAGE, offset=len(found), **options):
        found += page
        if len(page) < _PAGE:
            break
    return found
