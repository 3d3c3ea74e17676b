"""The survey: everything that has to be known, and found right, before the first write."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient

from automations.as_code import blocks as alert_channels
from automations.as_code.blocks import AlertChannel
from automations.as_code.catalogue import read_automations, read_catalogue, read_variables
from automations.as_code.change import Change
from automations.as_code.files import Definition, completed, read_definitions, variables_of
from automations.as_code.order import in_order
from automations.as_code.placeholders import Values
from automations.as_code.plan import Step, claim, plan
from automations.as_code.references import Catalogue, Kind, find_references
from automations.as_code.resolving import placeholder_id
from automations.as_code.server import connected
from automations.errors import ConfigurationError, Problem
from automations.settings import Settings, read_settings

FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Survey:
    """What there is to do, and what is needed to do it."""

    client: SyncPrefectClient
    channels: Sequence[tuple[AlertChannel, Change]]
    steps: Sequence[Step]
    catalogue: Catalogue


@contextmanager
def surveyed(folder: Path, settings: Settings | None, owner: str) -> Generator[Survey, None, None]:
    """Compare a folder with the server; give what there is to do while the connection lasts.

    The notification blocks are looked at as well if the folder is this project's own, or if there are settings.
    Raises ConfigurationError with every problem of the settings, the files and their references at once.
    """
    definitions, problems = read_definitions(folder)
    channels, mistakes = _wanted_channels(folder, settings)
    problems += mistakes
    with connected(problems) as client:
        if wanted := variables_of(definitions):
            variables = read_variables(client, wanted)
            definitions, mistakes = completed(definitions, Values(os.environ, variables))
            problems += mistakes
        else:
            definitions, _ = completed(definitions, Values(os.environ))
        definitions, mistakes = in_order(definitions)
        yield _survey(client, definitions, channels, owner, [*problems, *mistakes])


def _wanted_channels(folder: Path, settings: Settings | None) -> tuple[list[AlertChannel], list[Problem]]:
    if settings is None and folder.resolve() != FOLDER:
        return [], []
    try:
        return alert_channels.wanted(settings or read_settings())
    except ConfigurationError as error:
        return [], list(error.problems)


def _survey(
    client: SyncPrefectClient,
    definitions: Sequence[Definition],
    channels: Sequence[AlertChannel],
    owner: str,
    problems: list[Problem],
) -> Survey:
    references = [(one, reference) for one in definitions for reference in find_references(one.document)]
    existing = read_automations(client)
    claims, mistakes = claim(definitions, existing, owner)
    catalogue = read_catalogue(client, {reference.kind for _, reference in references})
    # Our own blocks and automations need not be there yet: they are written before what refers to them.
    coming = {channel.reference: placeholder_id(channel.reference) for channel in channels}
    catalogue = {
        **catalogue,
        Kind.BLOCK: {**coming, **catalogue.get(Kind.BLOCK, {})},
        Kind.AUTOMATION: claims.ids([one.name for one in definitions], existing),
    }
    unknown = [
        definition.problem(reference.field, message)
        for definition, reference in references
        if (message := reference.problem(catalogue))
    ]
    if found := [*problems, *mistakes, *unknown]:
        raise ConfigurationError(dict.fromkeys(found))
    blocks = [(channel, alert_channels.planned(channel, client)) for channel in channels]
    return Survey(client, blocks, plan(definitions, claims, catalogue, owner), catalogue)
