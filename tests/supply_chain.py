"""What is installed besides our own code: `docs/licences.md`, and the bill of materials (SBOM) in CycloneDX's format.

`python -m tests.supply_chain licences` and `python -m tests.supply_chain sbom FILE`; both read the installed packages
and need no network. Both have what requirements.txt pins, and not the tools of development.
"""

import json
import re
import subprocess
import sys
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LICENCES = ROOT / "docs" / "licences.md"
ELSEWHERE = "not installed where this list was made"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)
_HEAD = """\
# Licences

Every package that `requirements.txt` pins, with the licence that its own metadata name; made by `just licences` from
the installed packages, and checked by `tests/project/test_supply_chain.py`. Our own code is under the MIT licence
([LICENSE](../LICENSE)). We distribute none of these packages: they are installed from a package index. A container
image that is passed on does contain them: psycopg (LGPL-3.0) and asyncssh (EPL-2.0, or GPL-2.0 or later) are in it
unchanged and can be replaced. `just sbom` writes all of it as a bill of materials, `sbom.json`.

| package | version | licence |
|---|---|---|
"""


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """Return the versions of the packages that a requirements file pins, by their names."""
    return {canonical(name): version for name, version in _PIN.findall(text)}


def requirements() -> dict[str, str]:
    """Return what is installed to run the project."""
    return pinned((ROOT / "requirements.txt").read_text("utf-8"))


def licence_of(name: str) -> str:
    """Return the licence that an installed package names, shortest form first."""
    try:
        found: Message = metadata(name)  # pyright: ignore[reportAssignmentType]
    except PackageNotFoundError:
        return ELSEWHERE
    classified = [
        one.rpartition("::")[2].strip()
        for one in found.get_all("Classifier") or []
        if one.startswith("License ::") and one != "License :: OSI Approved"
    ]
    named = (found.get("License") or "").strip().split("\n")[0]
    expression = (found.get("License-Expression") or "").strip()
    return expression or ("; ".join(classified)) or (named if len(named) < 80 else "") or "unknown"


def licences() -> str:
    """Return the page of licences."""
    rows = [f"| {name} | {version} | {licence_of(name)} |" for name, version in sorted(requirements().items())]
    return _HEAD + "\n".join(rows) + "\n"


def bill_of_materials() -> dict[str, Any]:
    """Return CycloneDX's document of the installed packages that requirements.txt pins."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", "pyproject.toml"]
    made = subprocess.run(
        [*command, "--output-reproducible", "--of", "JSON", sys.executable], cwd=ROOT, check=True, capture_output=True
    )
    return only(json.loads(made.stdout), set(requirements()))


def only(document: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return a CycloneDX document with the components of these names alone."""
    components = [one for one in document.get("components", []) if canonical(one["name"]) in names]
    kept = {one["bom-ref"] for one in components}
    kept.add(document.get("metadata", {}).get("component", {}).get("bom-ref", ""))
    dependencies = [
        {**one, **({"dependsOn": [ref for ref in one["dependsOn"] if ref in kept]} if "dependsOn" in one else {})}
        for one in document.get("dependencies", [])
        if one["ref"] in kept
    ]
    return {**document, "components": components, "dependencies": dependencies}


def main() -> None:
    """Write what is asked for."""
    match sys.argv[1:]:
        case ["licences"]:
            LICENCES.write_text(licences(), "utf-8")
            print(f"wrote {LICENCES}")
        case ["sbom", file]:
            document = bill_of_materials()
            Path(file).write_text(json.dumps(document, indent=2) + "\n", "utf-8")
            print(f"wrote {file}: {len(document['components'])} packages")
        case _:
            sys.exit("expected: licences, or sbom FILE")


if __name__ == "__main__":
    main()
