"""The drop page as a browser gets it, without one: what it shows of a ledger that was written by hand."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from fastapi import FastAPI

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.runtime.clock import Clock
from sensors.web.app import make_page

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Shown:
    """The page, asked without a socket between."""

    app: FastAPI

    def get(
        self, path: str, headers: Mapping[str, str] = BROWSER, auth: tuple[str, str] | None = ("admin", "secret")
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", auth=auth) as client:
                return await client.get(path, headers=dict(headers))

        return asyncio.run(ask())


def shown_page(folder: Path, *inboxes: str) -> Shown:
    """Return a browser on the page of the stack in a folder, whose ledger is `ledger.db` in it."""
    rules = folder / "inboxes.yaml"
    rules.write_text("inboxes:\n" + "".join(f"  {name}: {{}}\n" for name in inboxes or ("metrics",)))
    known = {"state_dir": folder, "inboxes_file": rules, "prefect_api_auth_string": "admin:secret"}
    settings = Settings.model_validate(known)
    return Shown(make_page(settings, read_inboxes(rules, settings.inbox_dir), _nothing_else, clock=Clock(lambda: NOW)))


@asynccontextmanager
async def _nothing_else(_: FastAPI) -> AsyncGenerator[None]:
    yield
