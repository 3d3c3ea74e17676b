"""Whether the sensor is ready: it has begun with everything, and the ledger opens."""

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sensors.ledger import Ledger, LedgerError
from sensors.runtime.loop import Loop


def ready_page(loops: Sequence[Loop], ledger_path: Path) -> Route:
    """Return the route `/readyz`: 200 once each loop's first step is over and while the ledger opens, else 503.

    A first step may have failed: a store that is down keeps its inbox waiting and no other. `/healthz` tells of that.
    """

    def readyz(_: Request) -> JSONResponse:
        reasons = [f"{loop.name}: its first step is not over" for loop in loops if not loop.has_stepped]
        try:
            Ledger(ledger_path, read_only=True).close()
        except LedgerError as error:
            reasons.append(str(error))
        document = {"ready": not reasons, "detail": "; ".join(reasons)}
        return JSONResponse(document, status_code=503 if reasons else 200)

    return Route("/readyz", readyz)
