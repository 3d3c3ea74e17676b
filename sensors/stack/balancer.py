"""Configure and run HAProxy, which gives several API servers of this machine one address.

`python -m sensors.stack.balancer` replaces itself by HAProxy. A server that does not answer gets no new connections. A
request whose connection fails goes to another server, so only the requests in progress are lost when a server dies.
"""

import os
import shutil
from pathlib import Path

from sensors.config.settings import Settings, read_settings
from sensors.files.beneath import replace_text

PROGRAM = "haproxy"

# `timeout tunnel`: Prefect's clients and its page keep websockets open as long as they run, often without traffic.
# `retry-on conn-failure`: a request already sent to a server that died may have been executed, so HAProxy does not
# repeat it. Clients know which requests can be repeated.
_RULES = """\
global
    maxconn 8000
defaults
    mode http
    timeout connect 2s
    timeout client 5m
    timeout server 5m
    timeout tunnel 24h
    retries 3
    option redispatch 1
    retry-on conn-failure
frontend api
    bind {host}:{port}
    # The servers limit failed log-ins by the client's address, and take it from us alone.
    http-request del-header x-forwarded-for
    option forwardfor
    default_backend servers
backend servers
    balance leastconn
    option httpchk GET /api/health
    # A dead server refuses at once; one that is only busy keeps its connections and gets more time than HAProxy's 1 s.
    timeout check 10s
    default-server check inter 1s fall 3 rise 1
{servers}
"""


def program() -> str | None:
    """Return the path of HAProxy; None if it is not installed."""
    # Debian installs it in a folder that is in the PATH of root only.
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path="/usr/sbin:/usr/local/sbin")


def configuration(settings: Settings) -> str:
    """Return HAProxy's configuration for the API servers of this machine."""
    servers = [f"    server server-{n} 127.0.0.1:{port}" for n, port in enumerate(settings.api_server_ports, start=1)]
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    return _RULES.format(host=host, port=settings.api_port, servers="\n".join(servers))


def main() -> None:
    """Write the configuration and replace this process by HAProxy."""
    settings = read_settings()
    file: Path = settings.prefect_home / "haproxy.cfg"
    replace_text(file, configuration(settings))
    found = program()
    if found is None:
        raise SystemExit(f"{PROGRAM} is not installed; install it, on Debian with `apt install {PROGRAM}`")
    os.execv(found, [PROGRAM, "-db", "-f", str(file)])  # noqa: S606 # no shell between


if __name__ == "__main__":
    main()
