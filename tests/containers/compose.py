"""The scale profile in containers, as somebody has it who follows docs/scale.md."""

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.containers.engine import Engine, succeeded
from tests.journeys.stack import wait_until

PAGE = "http://127.0.0.1:4201"
API = "http://127.0.0.1:4200/api"
HEALTHY_SECONDS = 300.0
ORDERS = "date,orders\n2026-01-05,128\n2026-01-06,97\n"


@dataclass(frozen=True)
class Installation:
    """The project's folder, in which commands are typed, and the engine that runs its containers."""

    engine: Engine
    folder: Path

    def typed(self, line: str) -> str:
        """Type a line in the project's folder, which has to succeed, and return what it wrote."""
        return succeeded(self.engine.run("bash", "-c", line, folder=self.folder))

    def compose(self, *words: str, fed: bytes | None = None) -> str:
        """Run `docker compose` with the project's file and return what it wrote."""
        command = ("docker", "compose", "--file", "deploy/compose.yaml", *words)
        return succeeded(self.engine.run(*command, fed=fed, folder=self.folder))

    # -- passwords

    def set_passwords(self) -> None:
        """Put a password in place of each of the example's, and take the digests away: a stand-in has another."""
        file = self.folder / "deploy" / ".env"
        text = re.sub("change-me", lambda _: secrets.token_hex(24), file.read_text())
        file.write_text(re.sub(r"@sha256:[0-9a-f]{64}", "", text))

    @cached_property
    def passwords(self) -> Mapping[str, str]:
        """The passwords, by the name of their setting."""
        text = (self.folder / "deploy" / ".env").read_text()
        return dict(re.findall(r"^(\w+_PASSWORD)=(\w+)$", text, re.MULTILINE))

    @property
    def credentials(self) -> tuple[str, str]:
        """What `curl` is given for Prefect's API and the drop page."""
        return ("--user", f"admin:{self.passwords['API_PASSWORD']}")

    # -- containers

    def containers(self) -> list[dict[str, Any]]:
        """Return what Docker Compose tells of each container."""
        reported = self.compose("ps", "--all", "--format", "json")
        return [json.loads(line) for line in reported.splitlines()]

    def wait_until_healthy(self) -> None:
        """Wait until every container runs, and is healthy if it can tell."""

        def all_healthy() -> bool:
            states = {(one["State"], one["Health"]) for one in self.containers()}
            return states <= {("running", "healthy"), ("running", "")}

        wait_until(all_healthy, "all containers are healthy", HEALTHY_SECONDS, pause=2)

    def kill_first_process(self, service: str) -> str:
        """kill -9 the first process of a container of this service, as the kernel would, and return its id.

        `docker kill` will not do: what somebody has killed by it is not started again.
        """
        container = self.compose("ps", "--quiet", service).split()[0]
        pid = self.engine.docker("inspect", "--format", "{{.State.Pid}}", container).strip()
        succeeded(self.engine.run("nsenter", "--target", str(self.engine.process.pid), "--pid", "kill", "-9", pid))
        return container

    def starts_again(self, container: str) -> int:
        """Return how often the engine has started a container again."""
        return int(self.engine.docker("inspect", "--format", "{{.RestartCount}}", container))

    # -- files and rows

    def drop(self, service: str, files: Mapping[str, str]) -> None:
        """Write files into the inbox of a container, one after the other."""
        for name, content in files.items():
            inbox = f"$STATE_DIR/inbox/metrics/{name}"
            self.compose("exec", "-T", service, "sh", "-c", f'cat > "{inbox}"', fed=content.encode())

    def rows(self) -> Counter[str]:
        """Count the rows in the warehouse by their file, as PostgreSQL's own client sees them."""
        there = self._sql("SELECT to_regclass('public.daily_metrics') IS NOT NULL")
        if there.strip() != "t":
            return Counter()
        reported = self._sql("SELECT _file_name, count(*) FROM public.daily_metrics GROUP BY 1")
        return Counter({name: int(rows) for name, rows in (line.split("|") for line in reported.splitlines())})

    def _sql(self, query: str) -> str:
        client = ("psql", "--username=prefect", "--dbname=warehouse", "--tuples-only", "--no-align")
        return self.compose("exec", "-T", "postgres", *client, "--command", query)

    def wait_for_rows(self, expected: Mapping[str, int], seconds: float = 60.0) -> None:
        """Wait until so many rows of each of these files are in the warehouse; more of any is an error."""

        def look() -> bool:
            found = self.rows()
            assert all(found[name] <= rows for name, rows in expected.items()), f"loaded twice: {found}"
            return found >= Counter(expected)

        wait_until(look, f"{len(expected)} files have their rows", seconds, pause=1)
