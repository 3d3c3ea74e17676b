"""Real proxies in front of a drop page: Caddy and nginx, told what docs/page.md has their owners tell them."""

import os
import ssl
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.deploy_files import program, said
from tests.documentation import ROOT, blocks, settings_set
from tests.free_ports import free_ports
from tests.journeys.stack import wait_until
from tests.served_page import AUTH

PAGE = ROOT / "docs" / "page.md"
(ADDRESS,) = [value for name, value in settings_set(PAGE) if name == "DROP_PAGE_URL"]
NAME = ADDRESS.removeprefix("https://")

CADDYFILE = """{{
    admin off
    auto_https disable_redirects
    default_bind 127.0.0.1
    https_port {port}
    local_certs
    skip_install_trust
    storage file_system {folder}/store
}}
{snippet}"""
"""Certificates of an authority of its own, which is in this folder alone; no port but the one."""

NGINX_CONF = """{user}
daemon off;
pid {folder}/nginx.pid;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        server_name {name};
{snippet}
    }}
}}
"""


class _ByName(httpx.HTTPTransport):
    """Asks a port of the loopback under the name that its certificate has, as name servers would have it."""

    def __init__(self, port: int, certificate: Path) -> None:
        super().__init__(verify=ssl.create_default_context(cafile=certificate), trust_env=False)
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        return super().handle_request(request)


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs; `certificate` is that of the authority that vouches for its name."""

    kind: str
    folder: Path
    certificate: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def client(self, auth: tuple[str, str] | None = AUTH) -> httpx.Client:
        transport = _ByName(self.port, self.certificate)
        return httpx.Client(base_url=ADDRESS, auth=auth, transport=transport, timeout=30)

    def log(self) -> str:
        return (self.folder / "log").read_text()


def snippet_of(first: str, page_port: int) -> str:
    """Return the page's lines for a proxy, whose first line begins with `first`; they lead to another port."""
    (found,) = [block for block in blocks(PAGE, "") if block.startswith(f"# {first}")]
    assert "127.0.0.1:4201" in found
    return found.replace("127.0.0.1:4201", f"127.0.0.1:{page_port}")


@contextmanager
def caddy(folder: Path, page_port: int) -> Generator[Proxy]:
    """Run Caddy before a page."""
    proxy = Proxy("caddy", folder, folder / "store" / "pki" / "authorities" / "local" / "root.crt")
    text = CADDYFILE.format(port=proxy.port, folder=folder, snippet=snippet_of("Caddyfile", page_port))
    (folder / "Caddyfile").write_text(text)
    command = [program("caddy", "caddy"), "run", "--config", str(folder / "Caddyfile")]
    with _running(proxy, command, HOME=str(folder)):
        yield proxy


@contextmanager
def nginx(folder: Path, page_port: int) -> Generator[Proxy]:
    """Run nginx before a page."""
    proxy = Proxy("nginx", folder, folder / "cert.pem")
    found = program("nginx", "nginx-light")
    said(
        *(program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "1", "-subj", f"/CN={NAME}"),
        *("-addext", f"subjectAltName=DNS:{NAME}"),
        cwd=folder,
    )
    text = NGINX_CONF.format(
        user="user root;" if os.geteuid() == 0 else "",  # else its workers are nobody, who may not enter the folder
        port=proxy.port,
        folder=folder,
        name=NAME,
        snippet=snippet_of("nginx", page_port),
    )
    (folder / "nginx.conf").write_text(text)
    with _running(proxy, [found, "-p", str(folder), "-e", str(folder / "log"), "-c", str(folder / "nginx.conf")]):
        yield proxy


@contextmanager
def _running(proxy: Proxy, command: list[str], **environment: str) -> Generator[None]:
    with (proxy.folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=proxy.folder, env={**os.environ, **environment}, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, proxy.log()
        try:
            with proxy.client(None) as client:
                return client.get("/").status_code == 401
        except (OSError, httpx.TransportError):
            return False

    try:
        wait_until(answers, f"{proxy.kind} passes on to the page", 20)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)
