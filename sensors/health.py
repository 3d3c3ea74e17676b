"""What the sensor says of its own health, on SENSOR_PORT."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response, status

from sensors.loop import Loop
from sensors.watching.watch import Watch


def health_page(loops: Sequence[Loop], watches: Mapping[str, Watch]) -> APIRouter:
    """Return the route `/healthz`: 200 while every loop steps and has no trouble, else 503 and `detail`."""
    router = APIRouter()

    @router.get("/healthz")
    def healthz(response: Response) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        wrong = [f"{loop.name}: {loop.trouble or 'stuck'}" for loop in loops if loop.trouble or not loop.alive]
        if wrong:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return {
            "healthy": not wrong,
            "detail": "; ".join(wrong),
            "loops": {loop.name: {"alive": loop.alive, "trouble": loop.trouble} for loop in loops},
            "inboxes": {name: {"mode": watch.mode, "why": watch.why_polling} for name, watch in watches.items()},
        }

    return router
