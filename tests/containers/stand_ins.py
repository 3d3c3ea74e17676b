"""Stand-ins for the registry's images, made of Debian's packages where the registry cannot be reached.

They have the names, users, folders and commands that deploy/ asks of the real ones, and the versions of Debian 12:
PostgreSQL 15, Redis 7.0, HAProxy 2.6, Python 3.11. What only the real ones do differently stays unseen.
"""

from pathlib import Path

from tests.containers.engine import Engine, succeeded

IMAGES = Path(__file__).parent / "images"
DEBIAN = "debian:bookworm-slim"
STAND_INS = {
    "python:3.11-slim-bookworm": "python",
    "postgres:17-bookworm": "postgres",
    "redis:7.4-bookworm": "redis",
    "haproxy:3.0-trixie": "haproxy",
}
_OWN_AUTHORITIES = Path("/usr/local/share/ca-certificates")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TRUSTED = "/etc/ssl/certs/ca-certificates.crt"


def provide(engine: Engine, *names: str) -> None:
    """Have the engine know these images: the real ones, or what stands in for them."""
    for name in names:
        if engine.run("docker", "pull", "--quiet", name).returncode == 0:
            continue
        if name == DEBIAN:
            _debian(engine)
        else:
            provide(engine, DEBIAN)
            build(engine, name, STAND_INS[name])


def build(engine: Engine, name: str, folder: str) -> None:
    """Build an image from its folder in `images`."""
    engine.docker("build", "--quiet", "--tag", name, "--file", f"{IMAGES / folder}/Containerfile", str(IMAGES / folder))


def _debian(engine: Engine) -> None:
    """Make Debian of its packages; it trusts the authorities that this machine's administrator has added."""
    if engine.run("docker", "image", "inspect", DEBIAN).returncode == 0:
        return
    root = engine.folder / "debian.tar"
    hooks = [f"copy-in {_OWN_AUTHORITIES} /usr/local/share", 'chroot "$1" update-ca-certificates']
    customized = [f"--customize-hook={hook}" for hook in hooks]
    packages = "--include=ca-certificates,netbase,tzdata"
    succeeded(engine.run("mmdebstrap", "--quiet", "--variant=apt", packages, *customized, "bookworm", str(root)))
    # pip looks at a list of its own, and uv at one of its own, unless they are told.
    reported = {"PIP_CERT": _TRUSTED, "SSL_CERT_FILE": _TRUSTED, "PATH": _PATH}
    changes = [f"--change=ENV {name}={value}" for name, value in reported.items()]
    engine.docker("import", *changes, str(root), DEBIAN)
    root.unlink()
