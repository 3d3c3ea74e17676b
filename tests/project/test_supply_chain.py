"""What is installed besides our own code: every package has a known licence and is in the bill of materials."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.supply_chain import ELSEWHERE, LICENCES, ROOT, canonical, licence_of, only, pinned, requirements


def listed() -> dict[str, tuple[str, str]]:
    rows = [line.strip("| ").split(" | ") for line in LICENCES.read_text("utf-8").splitlines() if line.startswith("| ")]
    return {name: (version, licence) for name, version, licence in rows[1:]}


def test_the_list_of_licences_has_every_pinned_package_in_its_version():
    assert {name: version for name, (version, _) in listed().items()} == requirements(), "run `just licences`"


def test_every_licence_is_known_and_as_the_installed_package_names_it():
    for name, (_, licence) in listed().items():
        assert licence != "unknown", name
        assert licence_of(name) in {licence, ELSEWHERE} or licence == ELSEWHERE, f"{name}: run `just licences`"


def test_packages_under_a_licence_with_conditions_are_known_by_name():
    conditional = {name for name, (_, licence) in listed().items() if "GPL" in licence}
    assert conditional == {"asyncssh", "psycopg", "psycopg-binary", "text-unidecode"}


def test_no_development_package_doubles_the_time_of_an_import_of_prefect():
    assert "rfc3987-syntax" not in pinned((ROOT / "requirements-dev.txt").read_text()), "jsonschema would import it"


def test_names_are_read_from_pins_as_indexes_compare_them():
    assert pinned("Psycopg[binary]==3.2 \\\n    --hash=sha256:1\nzope.event==5 ; python_version < '3.12'\n") == {
        "psycopg": "3.2",
        "zope-event": "5",
    }
    assert canonical("A_b.C") == "a-b-c"


def test_a_bill_of_materials_keeps_the_packages_asked_for_and_what_they_depend_on_among_themselves():
    document = {
        "metadata": {"component": {"bom-ref": "us"}},
        "components": [{"name": "A", "bom-ref": "a"}, {"name": "b", "bom-ref": "b"}],
        "dependencies": [{"ref": "us", "dependsOn": ["a", "b"]}, {"ref": "a", "dependsOn": ["b"]}, {"ref": "b"}],
    }
    found = only(document, {"a"})
    assert found["components"] == [{"name": "A", "bom-ref": "a"}]
    assert found["dependencies"] == [{"ref": "us", "dependsOn": ["a"]}, {"ref": "a", "dependsOn": []}]


@pytest.mark.skipif(find_spec("cyclonedx_py") is None, reason="the development packages are not installed")
def test_the_bill_of_materials_has_every_installed_package_with_its_licence_and_no_path_of_the_machine(tmp_path: Path):
    file = tmp_path / "sbom.json"
    subprocess.run([sys.executable, "-m", "tests.supply_chain", "sbom", file], cwd=ROOT, check=True)
    document = json.loads(file.read_text())
    assert document["bomFormat"] == "CycloneDX"
    here = {name for name in requirements() if licence_of(name) != ELSEWHERE}
    assert {canonical(one["name"]) for one in document["components"]} == here
    assert all(one["version"] and one["purl"] for one in document["components"])
    assert str(ROOT) not in file.read_text()


@pytest.mark.skipif(find_spec("pip_audit") is None, reason="the development packages are not installed")
def test_an_audit_collects_every_package_and_one_that_reaches_no_database_fails():
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "-r", "requirements.txt"]

    def audit(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pip_audit", "--strict", *more, *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    dry = audit("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would have audited" in dry.stderr
    assert audit("--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/v1/query").returncode != 0
