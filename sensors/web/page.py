"""The page that Prometheus scrapes, on SENSOR_PORT; it holds no secrets and no file names."""

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sensors.web.metrics import SensorCollector


def metrics_page(collector: SensorCollector) -> Route:
    """Return the route `/metrics`, in the format that the scraper asks for."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return Route("/metrics", metrics)
