"""What the sensor says of its own health, on SENSOR_PORT."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response, status

from sensors.loop import Loop
from sensors.watch import Watch


def health_page(loops: Sequence[Loop], watches: Mapping[str, Watch]) -> APIRouter:
    """Return the route `/healthz`: 200 while every loop steps, 503 otherwise; it names no file and no secret."""
    router = APIRouter()

    @router.get("/healthz")
    def healthz(response: Response) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        healthy = all(loop.alive for loop in loops)
        if not healthy:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return {
            "healthy": healthy,
            "loops": {loop.name: {"alive": loop.alive, "trouble": loop.trouble} for loop in loops},
            "inboxes": {name: {"mode": watch.mode} for name, watch in watches.items()},
        }

    return router
