"""The progress of a long load, on a real Prefect server."""

import logging
from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.loading.file_result import FileResult, Outcome
from flows.report.artifacts import AFTER, PAUSE, PROGRESS_KEY, LoadProgress

MOST = 1_000
LOADED = [FileResult(f"{number}.csv", Outcome.LOADED, 1, 10, 0.1) for number in range(MOST // 10)]


@pytest.fixture
def client(api_url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as opened:
        yield opened


def progress(name: str) -> LoadProgress:
    return LoadProgress(name, len(LOADED), MOST, 100.0, logging.getLogger("test"))


def shown(client: SyncPrefectClient, name: str) -> list[tuple[float, str | None]]:
    """Return the progress artifacts under a load's key: how far, and what they say."""
    of_load = ArtifactFilter(key=ArtifactFilterKey(any_=[PROGRESS_KEY.format(name)]))
    return [(float(str(one.data)), one.description) for one in client.read_artifacts(artifact_filter=of_load)]


def test_a_short_load_leaves_none(client: SyncPrefectClient) -> None:
    load = progress("short")
    load.update(LOADED[:50], LOADED[:50], 100 + AFTER / 2)
    load.update(LOADED[50:], LOADED, 100 + AFTER + 1)
    assert shown(client, "short") == []


def test_a_long_one_is_shown_by_its_bytes_and_ends_with_all_of_them(client: SyncPrefectClient) -> None:
    @flow
    def load() -> list[list[tuple[float, str | None]]]:
        load = progress("long")
        seen: list[list[tuple[float, str | None]]] = []
        for first, last, now in [(0, 25, AFTER), (25, 40, AFTER + PAUSE / 2), (40, 50, AFTER + PAUSE), (50, 100, 6)]:
            load.update(LOADED[first:last], LOADED[:last], 100 + now)
            seen.append(shown(client, "long"))
        return seen

    assert [[percent for percent, _ in artifacts] for artifacts in load()] == [[25], [25], [50], [100]]
    assert shown(client, "long") == [(100, "100 loaded with 100 rows, 0 skipped, 0 rejected.")]


def test_of_the_last_file_it_is_shown_how_far_its_query_is_and_of_no_other(client: SyncPrefectClient) -> None:
    @flow
    def load() -> list[list[tuple[float, str | None]]]:
        load = LoadProgress("last", 2, MOST, 100.0, logging.getLogger("test"))
        seen: list[list[tuple[float, str | None]]] = []
        load.estimate(0.5, 100 + AFTER)
        seen.append(shown(client, "last"))
        large = FileResult("large.csv", Outcome.LOADED, 1, 600, 0.1)
        load.update([large], [large], 100)
        for share, now in [(0.25, AFTER), (0.3, AFTER + PAUSE / 2), (0.5, AFTER + PAUSE)]:
            load.estimate(share, 100 + now)
            seen.append(shown(client, "last"))
        return seen

    assert [[percent for percent, _ in artifacts] for artifacts in load()] == [[], [70], [70], [80]]


def test_a_server_that_does_not_answer_stops_no_load(caplog: pytest.LogCaptureFixture, unreachable: str) -> None:
    with temporary_settings({PREFECT_API_URL: unreachable}):
        progress("unheard").update(LOADED[:50], LOADED[:50], 100 + AFTER)
    assert "the progress of the load could not be written to Prefect" in caplog.text
