"""A real Prometheus on a free port of the loopback, with the files of deploy/grafana/ as they are."""

import shutil
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deploy_files import DEPLOY, program
from tests.free_ports import free_ports
from tests.journeys.stack import wait_until

GRAFANA = DEPLOY / "grafana"
SCRAPE_SECONDS = 1

Series = tuple[Mapping[str, str], list[float]]
"""A series' labels, and its values in the order of time."""


class PromQLError(Exception):
    """Prometheus does not take a question; the message is its own."""


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes one sensor."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))

    def ask(self, expression: str) -> list[Series]:
        """Ask for what is now."""
        found = self.get("query", query=expression)
        return [(one["metric"], [float(one["value"][1])]) for one in found["result"]]

    def ask_range(self, expression: str, seconds: float, step: float) -> list[Series]:
        """Ask for the time up to now."""
        now = time.time()
        found = self.get("query_range", query=expression, start=now - seconds, end=now, step=step)
        return [(one["metric"], [float(value) for _, value in one["values"]]) for one in found["result"]]

    def number(self, expression: str) -> float | None:
        """Return the only value that there is now; None if there is none."""
        found = self.ask(expression)
        assert len(found) <= 1, f"{expression} has {len(found)} series"
        return found[0][1][0] if found else None

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the rules of alerts by their names, with health and state."""
        return {rule["name"]: rule for group in self.get("rules")["groups"] for rule in group["rules"]}

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what its API has at a path; raises PromQLError, HTTPStatusError while it is not ready."""
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        response = self._client.get(address, params=parameters)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:  # it listens before it is ready
            response.raise_for_status()
        answer = response.json()
        if answer["status"] != "success":
            raise PromQLError(f"{path} {parameters}: {answer['error']}")
        return answer["data"]

    def close(self) -> None:
        self._client.close()

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def prometheus_server(folder: Path, sensor_port: int) -> Generator[Prometheus]:
    """Run a server that has scraped a sensor once; skips the test without Prometheus, except in CI."""
    prometheus = Prometheus(folder)
    _configure(folder, sensor_port)
    command = [
        program("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{prometheus.port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def has_scraped() -> bool:
        assert process.poll() is None, prometheus.log()
        try:
            return prometheus.number("up") == 1
        except (httpx.TransportError, httpx.HTTPStatusError):
            return False

    try:
        wait_until(has_scraped, "Prometheus has scraped the sensor", 30)
        yield prometheus
    finally:
        prometheus.close()
        process.terminate()
        process.wait(timeout=30)


def _configure(folder: Path, sensor_port: int) -> None:
    """Copy the files; another are the port of the sensor, and how often it is looked at."""
    shutil.copy(GRAFANA / "alerts.yaml", folder)
    document = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text("utf-8"))
    (job,) = document["scrape_configs"]
    job["scrape_interval"] = f"{SCRAPE_SECONDS}s"
    assert job["static_configs"] == [{"targets": ["127.0.0.1:4201"]}]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{sensor_port}"]}]
    document["global"] = {"evaluation_interval": f"{SCRAPE_SECONDS}s"}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(document))
