"""What README.md and docs/ say: their shell commands, links, headings and settings."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_PROGRAM = re.compile(
    r"([A-Z_]+=\S+ )*"
    r"(just|(\.venv/bin/)?python|apt|chown|curl|docker|helm|kubectl|lsof|prefect|source|sqlite3"
    r"|ssh(-keyscan)?|sudo|systemctl) "
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A line of a shell block, or of text in backticks that begins with `just`."""

    page: Path
    line: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.line}"

    @property
    def words(self) -> list[str]:
        """The words of the line, its comment left out."""
        return shlex.split(self.line, comments=True)


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the blocks of a language, without their indentation."""
    for block in _BLOCK.finditer(page.read_text("utf-8")):
        if block["language"] == language:
            yield re.sub(rf"^{block['indent']}", "", block["text"], flags=re.MULTILINE)


def shell_commands(page: Path) -> list[Command]:
    """Return the commands of a page's shell blocks; a line that ends in a backslash goes on in the next one."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [Command(page, line.strip()) for line in lines if line.strip() and not line.strip().startswith("#")]


def written_commands(page: Path) -> list[Command]:
    """Return the commands of a page's running text: what is in backticks and begins with a program and what it gets."""
    written = _BLOCK.sub("", page.read_text("utf-8"))
    texts = [" ".join(text.split()).replace("\\|", "|") for text in _INLINE.findall(written)]
    return [Command(page, text) for text in texts if _PROGRAM.match(text)]


def all_commands(page: Path) -> list[Command]:
    """Return the commands of a page, those in running text too."""
    return [*shell_commands(page), *written_commands(page)]


def just_calls(page: Path) -> list[Command]:
    """Return every `just ...` of a page, those in running text too."""
    return [one for one in all_commands(page) if one.line.startswith("just ")]


def links(page: Path) -> list[str]:
    """Return where a page's links lead that are not addresses on the web."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    return [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def missing(page: Path, link: str) -> str | None:
    """Return what is missing at the end of a link, or None."""
    place, _, anchor = unquote(link).partition("#")
    target = (page.parent / place).resolve() if place else page
    if not target.exists():
        return f"there is no {target}"
    if anchor and anchor not in anchors(target):
        return f"{target} has no heading #{anchor}; it has {', '.join(sorted(anchors(target)))}"
    return None


def settings_set(page: Path) -> list[tuple[str, str]]:
    """Return the settings that shell blocks give values to, as they stand in a `.env` file."""
    return [
        (name, value.strip("\"'"))
        for block in blocks(page, "sh")
        for name, value in re.findall(r"^([A-Z][A-Z_]+)=(.*)$", block, re.MULTILINE)
    ]


@cache
def recipes() -> Mapping[str, Mapping[str, Any]]:
    """Return the recipes of the justfile as just itself understands them."""
    just = ROOT / ".venv" / "bin" / "just"
    said = subprocess.run(
        [just, "--dump", "--dump-format", "json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(said.stdout)["recipes"]


def module_of(recipe: str) -> list[str]:
    """Return what the recipe gives to `python -m`: the module and the words that come before the user's own."""
    body = "\n".join(
        "".join(part if isinstance(part, str) else " " for part in line) for line in recipes()[recipe]["body"]
    )
    found = re.search(r"-m ([^\"\n;]+)", body)
    words = found[1].split() if found else []
    return words[2:] if words[:2] == ["sensors", "client"] else [word for word in words if not word.startswith("-")]
