"""The layout of the code: where SQL may be, and what the layers are is checked by `just lint`."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SQL = re.compile(r"\b(SELECT [\w*(]|INSERT INTO |INSERT OR |UPDATE \w+ |DELETE FROM )")
ROOMS = ("sensors/ledger/", "sensors/reports/", "automations/delivery/")
"""The ledger, what is read from it for people, and the outbox."""
ELSEWHERE = {
    "sensors/stack/prefect_setup.py": "a lock in Prefect's own database",
}


def statements(path: Path) -> list[str]:
    """Return the texts of a module that hold a statement of SQL."""
    texts = (one.value for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Constant))
    return [text for text in texts if isinstance(text, str) and SQL.search(text)]


@pytest.mark.parametrize("package", ["sensors", "automations"])
def test_sql_is_in_the_ledger_the_reports_and_the_outbox_only(package: str):
    modules = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / package).rglob("*.py")}
    outside = [name for name in modules if not name.startswith(ROOMS) and name not in ELSEWHERE]
    assert {name: found for name in outside if (found := statements(modules[name]))} == {}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_let_pass_is_there(name: str):
    assert statements(ROOT / name)
