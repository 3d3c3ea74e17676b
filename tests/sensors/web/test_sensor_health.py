"""What the sensor says of itself on its port."""

import asyncio

import httpx
from starlette.applications import Starlette

from sensors.inbox.watcher import Watch
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.web.metrics import health_page


def asked(tmp_path, *loops: Loop):
    app = Starlette(routes=[health_page(loops, {"metrics": Watch(tmp_path)})])

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sensor") as client:
            return await client.get("/healthz")

    return asyncio.run(ask())


def test_a_sensor_whose_loops_step_is_healthy_and_shows_how_it_watches(tmp_path):
    loop = Loop("inbox metrics", lambda: 60.0, Clock())
    loop.start()
    answer = asked(tmp_path, loop)
    loop.stop()
    assert answer.status_code == 200
    assert answer.json()["healthy"] is True
    assert answer.json()["inboxes"] == {"metrics": {"mode": "events", "why": "", "being_written": ""}}


def test_a_loop_in_trouble_or_not_running_is_reported(tmp_path):
    full = Loop("inbox metrics", lambda: 60.0, Clock())
    full.trouble = "OperationalError: database or disk is full"
    answer = asked(tmp_path, full, Loop("prefect", lambda: 60.0, Clock()))
    assert answer.status_code == 503
    assert answer.json()["detail"] == "inbox metrics: OperationalError: database or disk is full; prefect: stuck"
