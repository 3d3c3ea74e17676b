"""Who may ask for what on the drop page."""

import base64
import os
import tempfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from sensors.access import log_ins
from sensors.access.accounts import Role, account_of
from sensors.access.log_ins import Action, Audit, LogIns
from sensors.access.origins import OwnNames, Rejection
from sensors.config.settings import Settings
from sensors.web.auth import PageAccess, RequestHead

FILES = OwnNames(frozenset({"files.example.com"}))


def access_of(credentials: str | None, **more) -> PageAccess:
    accounts = [account_of(credentials, Role.OPERATE)] if credentials else []
    return PageAccess(LogIns(accounts, Audit(Path(tempfile.mkdtemp()) / "audit.log"), lambda: 0.0, "page"), **more)


ACCESS = access_of("admin:sécret", upload_token="tok", names=FILES)


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_ins, "BURST", 10_000)


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def status(method: str = "GET", path: str = "/", access: PageAccess = ACCESS, **headers: str) -> int | None:
    given = {"host": "127.0.0.1:4201", **{name.replace("_", "-"): value for name, value in headers.items()}}
    found = access.visitor(RequestHead(method, path, given))
    return found.status if isinstance(found, Rejection) else None


def test_no_one_reads_or_writes_without_credentials():
    assert status() == 401
    assert status("PUT", "/inbox/metrics/a.csv") == 401
    assert status("POST", "/arrivals/x/retry") == 401


def test_the_credentials_of_prefects_page_open_everything():
    assert status(**basic("admin:sécret")) is None
    assert status("PUT", "/inbox/metrics/a.csv", **basic("admin:sécret")) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic YWRtaW4=",
        "Bearer admin:sécret",
        "Digest username=admin",
        basic("admin:sécre")["authorization"],
        basic("admin:sécrets")["authorization"],
        basic(":")["authorization"],
        basic("")["authorization"],
    ],
)
def test_wrong_credentials_open_nothing(authorization):
    assert status(authorization=authorization) == 401


def test_the_sensors_health_is_readable_without_credentials_on_the_loopback_and_can_only_be_read():
    assert {status(path=path) for path in ("/healthz", "/readyz", "/metrics")} == {None}
    assert status("POST", "/healthz") == 401
    assert status(path="/healthz/") == 401
    assert status(path="//healthz") == 401


def test_the_token_uploads_and_does_nothing_else():
    token = {"authorization": "Bearer tok"}
    assert status("PUT", "/inbox/metrics/a.csv", **token) is None
    assert status("GET", "/inbox/metrics/a.csv", **token) == 401
    assert status("POST", "/arrivals/x/retry", **token) == 401
    assert status("PUT", "/arrivals", **token) == 401
    assert status("PUT", "/inbox/metrics/a.csv", authorization="Bearer to") == 401


def test_without_a_token_set_an_empty_one_opens_nothing():
    assert status("PUT", "/inbox/metrics/a.csv", access_of("a:b"), authorization="Bearer ") == 401


def test_without_credentials_set_none_are_right():
    assert status(access=access_of(None), **basic("")) == 401
    assert status(access=access_of(None), **basic("None")) == 401


def test_with_auth_off_no_one_is_asked_and_other_origins_are_refused_all_the_same():
    access = access_of(None, is_open=True)
    assert status(access=access) is None
    assert status("PUT", "/inbox/metrics/a.csv", access, origin="http://evil.example") == 403
    assert status(access=access, host="evil.example:4201") == 421


@pytest.mark.parametrize("host", ["127.0.0.1:4201", "localhost:9", "[::1]:4201", "127.0.0.1", "files.example.com"])
def test_the_page_is_known_by_the_names_of_the_loopback_on_any_port_and_by_its_own(host):
    assert status(host=host, **basic("admin:sécret")) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "a@127.0.0.1", "x/127.0.0.1"],
)
def test_under_any_other_name_nothing_is_served_so_that_no_foreign_name_can_be_pointed_here(host):
    assert status(host=host, **basic("admin:sécret")) == 421
    assert status(path="/healthz", host=host) == 421


def test_beyond_the_loopback_prometheus_may_ask_under_any_name_and_no_one_else():
    access = access_of("admin:sécret", is_reachable=True)
    assert status(path="/metrics", access=access, host="etl-1:4201") is None
    assert status("POST", "/metrics", access, host="etl-1:4201") == 421
    assert status(path="/", access=access, host="etl-1:4201", **basic("admin:sécret")) == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:4202"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "same-origin", "origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_no_other_page_changes_anything_with_the_browsers_credentials(method, headers):
    assert status(method, "/arrivals/x/retry", **headers, **basic("admin:sécret")) == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://127.0.0.1:4201", "sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}],
)
def test_the_page_itself_and_a_script_may(headers):
    assert status("POST", "/arrivals/x/retry", **headers, **basic("admin:sécret")) is None


def test_behind_a_proxy_that_encrypts_the_origin_is_the_name_that_the_browser_knows():
    headers = {"host": "files.example.com", "origin": "https://files.example.com"}
    assert status("POST", "/arrivals/x/retry", **headers, **basic("admin:sécret")) is None


def test_a_proxy_may_leave_the_port_out_of_the_name_that_it_passes_on():
    names = OwnNames(frozenset({"files.example.com"}), frozenset({"https://files.example.com:8443"}))
    access = access_of("admin:sécret", names=names)
    for origin, wanted in (("https://files.example.com:8443", None), ("https://files.example.com:9", 403)):
        headers = {"host": "files.example.com", "origin": origin}
        assert status("POST", "/arrivals/x/retry", access, **headers, **basic("admin:sécret")) == wanted


def test_beyond_the_loopback_credentials_are_always_asked_for():
    with pytest.raises(ValidationError, match="expected the loopback"):
        Settings(auth="off", sensor_host="0.0.0.0")
    assert Settings(sensor_host="0.0.0.0").sensor_url == "http://127.0.0.1:4201"
    assert Settings(sensor_host="::").sensor_url == "http://[::1]:4201"
    assert Settings(sensor_host="fe80::1").drop_page == "http://[fe80::1]:4201"


def test_with_auth_off_an_address_beyond_the_loopback_is_rejected_for_page_and_api_at_once():
    with pytest.raises(ValidationError) as rejected:
        Settings(auth="off", sensor_host="0.0.0.0", api_host="10.0.0.5")
    assert [one["loc"] for one in rejected.value.errors()] == [("api_host",), ("sensor_host",)]
    assert Settings(auth="off", sensor_host="127.0.0.2", api_host="::1").api_url == "http://[::1]:4200/api"


def test_an_audit_log_that_is_a_device_keeps_its_permissions():
    before = Path(os.devnull).stat().st_mode
    Audit(Path(os.devnull)).record_command(Action.RETRY)
    assert Path(os.devnull).stat().st_mode == before
