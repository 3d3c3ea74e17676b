"""The summary: where everything is, printed when the stack is up."""

from pathlib import Path

from sensors.config.inboxes import Inbox
from sensors.config.settings import Auth, Settings


def summary(settings: Settings, inboxes: tuple[Inbox, ...], env_file: Path) -> list[tuple[str, str]]:
    """Return the summary as pairs of a name and what belongs to it."""
    folders = [("inbox", f"{inbox.where}  (drop files here: `just drop FILE {inbox.name}`)") for inbox in inboxes]
    return [
        ("page", settings.prefect_page),
        *([("drop page", settings.drop_page)] if settings.sensors or not settings.is_scale else []),
        ("log in", _log_in(settings, env_file)),
        *folders,
        ("warehouse", settings.warehouse),
        ("alerts", _alerts(settings)),
        ("logs", str(settings.logs_dir)),
        ("stop", "Ctrl-C"),
    ]


def _log_in(settings: Settings, env_file: Path) -> str:
    if settings.auth is Auth.OFF:
        return "nothing is asked (AUTH=off)"
    return f"with the value of PREFECT_API_AUTH_STRING, in {env_file}"


def _alerts(settings: Settings) -> str:
    log = settings.logs_dir / "alerts.log"
    urls = len(settings.notify_urls.split())
    if not urls:
        return f"alerts go only to {log}; set NOTIFY_URLS in .env to be told"
    return f"alerts go to {urls} {'address' if urls == 1 else 'addresses'} and to {log}"
