"""What is told when the server is silent, and when it is back: the two alerts that no automation can send."""

from datetime import datetime

from automations.delivery.alert import Alert
from automations.delivery.enqueue import Posting
from automations.delivery.models import Cause
from automations.delivery.policy import ALERTS


def server_silent(url: str, since: datetime, why: str, now: datetime) -> Posting:
    """Return the alert for a server that has not answered for a while."""
    lines = [
        f"Server: {url}",
        f"Since: {since.astimezone():%Y-%m-%d %H:%M:%S %Z}",
        f"Reason: {why:.300}",
        "Meanwhile: files are taken and wait, none is lost; nothing runs",
        "Next: `just status`; data/logs/server.log says why",
    ]
    cause = Cause(id=f"server-silent/{url}/{now.isoformat()}", kind="server-silent", opens=_trouble(url))
    return Posting(Alert.of("The Prefect server is silent", "\n".join(lines)), cause, ALERTS)


def server_back(url: str, now: datetime) -> Posting:
    """Return the alert for a server that answers again, told to those who were told of its silence."""
    alert = Alert.of("The Prefect server answers again", f"Server: {url}\nWhat has waited goes on now.")
    cause = Cause(id=f"server-back/{url}/{now.isoformat()}", kind="server-back", type="success", ends=_trouble(url))
    return Posting(alert, cause, ALERTS)


def _trouble(url: str) -> str:
    return f"server-silent/{url}"
