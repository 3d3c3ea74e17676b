"""The images of deploy/, pinned by their digests: `just pin-images` writes what their registries have now."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
FILES = (DEPLOY / ".env.example", DEPLOY / "container" / "Containerfile")
"""Where an image is named; the others refer to it by its variable."""

_IMAGE = re.compile(
    r"^(?P<before>(?:ARG )?\w+_IMAGE=)(?P<name>[\w./-]+(?::\d+/[\w./-]+)?:[\w.-]+)(?P<digest>@\S+)?$", re.MULTILINE
)


def images(text: str) -> dict[str, str]:
    """Return the images that a file names, by their variables."""
    return {
        found["before"].removeprefix("ARG ").rstrip("="): f"{found['name']}{found['digest'] or ''}"
        for found in _IMAGE.finditer(text)
    }


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """Return a file's text with each image pinned by the digest that its name has now."""
    return _IMAGE.sub(lambda found: f"{found['before']}{found['name']}@{digest_of(found['name'])}", text)


def digest_of(name: str) -> str:
    """Ask the registry for the digest of an image, for all of its platforms. Raises CalledProcessError."""
    asked = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", name)
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    for file in FILES:
        file.write_text(pinned(file.read_text("utf-8"), digest_of), "utf-8")
        print(f"wrote {file}")
