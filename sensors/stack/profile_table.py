"""The profile as a table: what runs on this machine, where everything is kept, and nothing secret."""

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensors.config.profile import ProfileSettings, masked
from sensors.config.settings import Settings
from sensors.stack.configuration import checked_settings
from sensors.stack.scale_environment import scale_environment
from sensors.stack.services import programs

_PREFECT = "what Prefect is told"
_ADDRESS = "_URL"


def show_profile(console: Console) -> None:
    """Print the profile. Raises StackError when the settings are wrong."""
    settings = checked_settings()
    for title, rows in profile_rows(settings).items():
        table = Table(box=None, pad_edge=False)
        table.add_column(title, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(Text(name), Text(value))
        console.print(table, "")


def profile_rows(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the table's parts by their titles, each with values by their names; secrets are masked."""
    own = {name.upper(): _shown(settings, name) for name in ("profile", "api_host", *ProfileSettings.model_fields)}
    own["WAREHOUSE_URL"] = settings.warehouse
    told = {
        name: masked(value) if name.endswith(_ADDRESS) else value for name, value in scale_environment(settings).items()
    }
    runs = {program.name: " ".join(program.arguments) for program in programs(settings)}
    if not settings.is_scale:
        own = {name: own[name] for name in ("PROFILE", "WAREHOUSE_URL")}
    own |= settings.heartbeat_urls
    return {"setting": own, "runs here as": runs, **({_PREFECT: told} if told else {})}


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked(text) if "://" in text else text
    if name == "node_name":
        return settings.node
    if name == "api_server_port":
        return " ".join(map(str, settings.api_server_ports)) or "none"
    return str(value)
