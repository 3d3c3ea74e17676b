"""Roles on the drop page: what each may do, on every route that there is, and what each is shown and recorded for."""

import json
import re
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import APIRouter, FastAPI

from sensors.access import log_ins
from sensors.access.accounts import Role
from sensors.ledger import Ledger
from sensors.web.auth import check_roles, declared_roles, needs
from tests.dropped_arrivals import record_arrival
from tests.served_page import AUTH, TOKEN, ServedPage, page_settings, served_page

USERS = {
    Role.LOOK: ("anna", "only-for-looking"),
    Role.DROP: ("plant", "only-for-dropping"),
    Role.OPERATE: ("ops", "for-everything"),
}
PAGE_USERS = " ".join(f"{role}={user}:{password}" for role, (user, password) in USERS.items())
FORM = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[ServedPage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_ins, "BURST", 10_000)
        with served_page(page_settings(tmp_path_factory.mktemp("roles"), page_users=PAGE_USERS)) as page:
            with Ledger(page.settings.ledger_path) as ledger:
                files = {"a.csv": "failed", "b.csv": "rejected"}
                record_arrival(ledger, "m-1", datetime(2026, 11, 24, tzinfo=UTC), files, state="failed")
            yield page


def routes(app: FastAPI) -> list[tuple[str, str, Role]]:
    return [(method, path, roles[0]) for method, path, roles in declared_roles(app) if method != "HEAD"]


def address(path: str) -> str:
    """Return an address of a route: what it is about need not exist."""
    return re.sub(r"{[^}]*}", "7", path).replace("/static", "/static/page.css")


def test_every_route_declares_exactly_one_role_and_those_that_change_something_need_more_than_looking(page: ServedPage):
    found = routes(page.app)
    assert len(found) > 15
    assert {(method, role) for method, _, role in found} == {
        ("GET", Role.LOOK),
        ("PUT", Role.DROP),
        ("POST", Role.OPERATE),
    }


def test_each_route_lets_in_those_who_have_its_role_and_no_one_else(page: ServedPage):
    for method, path, needed in routes(page.app):
        if path == "/stream":
            continue
        for role, auth in USERS.items():
            with page.client(auth) as client:
                status = client.request(method, address(path)).status_code
            is_in = status not in {401, 403}
            assert is_in == (needed in role.included), (method, path, role, status)


def test_the_stream_is_for_all_who_may_look(page: ServedPage):
    for auth in USERS.values():
        with page.client(auth) as client, client.stream("GET", "/stream") as stream:
            assert stream.status_code == 200


def test_the_upload_token_opens_the_routes_that_need_drop_and_no_other(page: ServedPage):
    with page.client(None) as client:
        for method, path, needed in routes(page.app):
            answer = client.request(method, address(path), headers={"Authorization": f"Bearer {TOKEN}"})
            assert (answer.status_code == 401) == (needed is not Role.DROP), (method, path)


def test_a_route_without_a_role_or_with_two_keeps_the_page_from_starting():
    for dependencies in ([], [needs(Role.LOOK), needs(Role.DROP)]):
        app, router = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), APIRouter()
        router.get("/new", dependencies=dependencies)(lambda: None)
        app.include_router(router)
        with pytest.raises(TypeError, match="GET /new"):
            check_roles(app)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("path", ["/", "/failed", "/arrivals/m-1"])
def test_buttons_that_a_role_may_not_use_are_not_shown(page: ServedPage, role: Role, path: str):
    with page.client(USERS[role]) as client:
        shown = client.get(path, headers=FORM).text
    assert ("Try again" in shown) == (role is Role.OPERATE)
    assert ("/dismiss" in shown) == (role is Role.OPERATE and path != "/arrivals/m-1")
    if path == "/":
        assert ('type="file"' in shown) == (role is not Role.LOOK)


def test_a_role_that_is_missing_is_named_to_the_person(page: ServedPage):
    with page.client(USERS[Role.LOOK]) as client:
        answer = client.post("/arrivals/m-1/retry")
    assert answer.status_code == 403
    assert "needs the role operate, and anna has look" in answer.json()["detail"]


def recorded(page: ServedPage, action: str) -> list[dict[str, Any]]:
    lines = (page.settings.logs_dir / "audit.log").read_text("ascii").splitlines()
    return [one for one in map(json.loads, lines) if one["action"] == action]


def test_what_each_does_is_recorded_with_its_user_and_a_hostile_name_stays_in_its_line(page: ServedPage):
    name = "x\u202e\u2028<b>\x1b[31m.csv"
    with page.client(USERS[Role.DROP]) as client:
        assert client.put(f"/inbox/metrics/{quote(name)}", content=b"1").status_code in {201, 422}
        assert client.put("/inbox/metrics/ok.csv", content=b"12").status_code == 201
        assert client.put("/inbox/metrics/no.exe", content=b"12").status_code == 422
        assert client.post("/files/1/dismiss").status_code == 403
    with page.client(USERS[Role.OPERATE]) as client:
        assert client.post("/files/1/dismiss").is_success
        assert client.post("/arrivals/m-1/retry").is_success
    with page.client(None) as client:
        client.put("/inbox/metrics/token.csv", content=b"1", headers={"Authorization": f"Bearer {TOKEN}"})
    uploads = {one["file"]: (one["user"], one["address"]) for one in recorded(page, "upload")}
    assert uploads["ok.csv"] == ("plant", "127.0.0.1")
    assert uploads["token.csv"] == ("upload token", "127.0.0.1")
    assert recorded(page, "upload rejected")[-1]["status"] == 422
    assert (recorded(page, "dismiss")[-1]["user"], recorded(page, "dismiss")[-1]["file_id"]) == ("ops", 1)
    assert (recorded(page, "retry")[-1]["user"], recorded(page, "retry")[-1]["arrival"]) == ("ops", "m-1")
    rejected = recorded(page, "role rejected")[-1]
    assert (rejected["user"], rejected["needs"], rejected["path"]) == ("plant", "operate", "/files/1/dismiss")
    said = (page.settings.logs_dir / "audit.log").read_text("ascii")
    assert not any(secret in said for secret in (TOKEN, AUTH[1], *(password for _, password in USERS.values())))
    assert all(character.isprintable() for line in said.splitlines() for character in line)


def test_an_audit_log_that_cannot_be_written_stops_no_upload_and_is_said_in_the_sensors_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = page_settings(tmp_path / "data")
    with served_page(settings) as page, page.client() as client:
        (settings.logs_dir / "audit.log").unlink(missing_ok=True)
        (settings.logs_dir / "audit.log").mkdir(parents=True)
        assert client.put("/inbox/metrics/a.csv", content=b"1").status_code == 201
        assert page.inbox.joinpath("a.csv").exists()
    (said,) = [one.getMessage() for one in caplog.records if '"action": "upload"' in one.getMessage()]
    assert "audit.log cannot be written (Is a directory)" in said
