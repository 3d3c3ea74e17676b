"""Scraping a sensor's metrics as Prometheus does, over its real page, without a network."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from sensors.config.settings import Settings
from sensors.files.file_systems import DiskSpace, Minimum
from sensors.inbox.watcher import Watch
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.web.metrics import SensorCollector, WatchStatus, metrics_page

Samples = dict[tuple[str, ...], float]


def get(app: Starlette, path: str, **headers: str) -> httpx.Response:
    """Ask an application for a page."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sensor") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def samples_in(text: str) -> Samples:
    """Return the samples by name and label values, in the alphabetical order of the labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Sensor:
    """A sensor of which only the metrics are there."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        loops: Sequence[Loop] = (),
        watches: Mapping[str, WatchStatus] | None = None,
    ) -> None:
        space = DiskSpace({"the ledger": folder}, Minimum())
        space.look()
        watches = {"metrics": Watch(folder)} if watches is None else watches
        self.collector = SensorCollector(Settings(state_dir=folder), loops, watches, clock, space=space)
        self.app = Starlette(routes=[metrics_page(self.collector)])

    def scrape(self) -> Samples:
        """Scrape it once."""
        return samples_in(get(self.app, "/metrics").text)
