"""An upload: what may come in under which name, and what answers a script gets."""

import base64
import hashlib
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from sensors.config.inboxes import read_inboxes
from sensors.ledger import Ledger
from sensors.web import uploads
from sensors.web.uploads import clear_forgotten
from tests.dropped_arrivals import record_arrival
from tests.served_page import TOKEN, page_settings, served_page

BODY = b"id,amount\n1,10\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("page")
    inboxes = folder / "inboxes.yaml"
    inboxes.write_text(
        "inboxes:\n"
        "  metrics: {max_file_bytes: 1000}\n"
        "  deep: {subfolders: true, max_file_bytes: 1000}\n"
        "  done: {done_file: .done}\n"
    )
    with served_page(page_settings(folder / "data", inboxes_file=inboxes)) as page:
        yield page


@pytest.fixture
def settings(page):
    for inbox in ("metrics", "deep", "done"):
        shutil.rmtree(page.settings.inbox_dir / inbox, ignore_errors=True)
        (page.settings.inbox_dir / inbox).mkdir()
    with Ledger(page.settings.ledger_path) as ledger, ledger.transaction():
        ledger.change("DELETE FROM files")
        ledger.change("DELETE FROM arrivals")
    return page.settings


@pytest.fixture
def client(page, settings):
    with page.client() as client:
        yield client


@pytest.fixture
def metrics(settings) -> Path:
    return settings.inbox_dir / "metrics"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_in_its_inbox_whole_and_its_digest_is_reported(client, metrics):
    answer = client.put("/inbox/metrics/orders.csv", content=BODY)
    assert answer.status_code == 201
    assert answer.json() == {
        "inbox": "metrics",
        "file": "orders.csv",
        "bytes": len(BODY),
        "sha256": hashlib.sha256(BODY).hexdigest(),
    }
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert answer.headers["Content-Digest"] == f"sha-256=:{digest}:"
    assert (metrics / "orders.csv").read_bytes() == BODY
    assert files_in(metrics) == ["orders.csv"]


def test_the_token_is_enough(client, metrics):
    client.auth = None
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert client.put("/inbox/metrics/a.csv", content=BODY, headers=token).is_success
    assert files_in(metrics) == ["a.csv"]


def test_nothing_is_overwritten(client, metrics):
    (metrics / "orders.csv").write_bytes(b"first")
    answer = client.put("/inbox/metrics/orders.csv", content=BODY)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("orders.csv is in metrics already and has not been taken yet")
    assert (metrics / "orders.csv").read_bytes() == b"first"
    assert files_in(metrics) == ["orders.csv"]


def test_of_two_that_come_at_once_under_one_name_one_is_refused(client, metrics, monkeypatch):
    first = uploads._make_room

    def then_the_other_one_comes(root: Path, partial: str, size: int) -> None:
        first(root, partial, size)
        (metrics / "orders.csv").write_bytes(b"other")

    monkeypatch.setattr(uploads, "_make_room", then_the_other_one_comes)
    assert client.put("/inbox/metrics/orders.csv", content=BODY).status_code == 409
    assert (metrics / "orders.csv").read_bytes() == b"other"
    assert files_in(metrics) == ["orders.csv"]


def test_with_if_none_match_a_name_that_has_come_before_is_not_taken_again(client, settings, metrics):
    with Ledger(settings.ledger_path) as ledger:
        record_arrival(ledger, "m-1", datetime(2026, 11, 24, tzinfo=UTC), {"orders.csv": "loaded"})
    again = client.put("/inbox/metrics/orders.csv", content=BODY, headers={"If-None-Match": "*"})
    assert (again.status_code, again.json()["detail"]) == (412, "orders.csv has come to metrics before")
    assert files_in(metrics) == []
    assert client.put("/inbox/deep/orders.csv", content=BODY, headers={"If-None-Match": "*"}).status_code == 201
    assert client.put("/inbox/metrics/orders.csv", content=BODY).status_code == 201


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("..%2f..%2fx.csv", 400, "expected the name of a file"),
        ("..%2fx.csv", 400, "expected the name of a file"),
        ("%2fetc%2fpasswd.csv", 400, "expected the name of a file"),
        ("a%2f%2e%2e%2fx.csv", 400, "expected the name of a file"),
        ("x%00.csv", 400, "expected the name of a file"),
        ("%2e%2e", 400, "expected the name of a file"),
        ("sub%2fx.csv", 400, "takes no subfolders"),
        (".hidden.csv", 422, "hidden name"),
        ("x.csv.part", 422, "temporary name"),
        ("x.exe", 422, "not this kind of file"),
        ("a%09b.csv", 422, "control characters"),
        ("%ff.csv", 400, "not UTF-8"),
        ("n" * 250 + ".csv", 422, "at most 200 are taken"),
    ],
)
def test_a_name_that_leads_elsewhere_or_is_not_taken_is_refused_with_the_reason(client, metrics, name, status, why):
    answer = client.put(f"/inbox/metrics/{name}", content=BODY)
    assert (answer.status_code, why in answer.json()["detail"]) == (status, True)
    assert files_in(metrics) == []


def test_names_of_every_script_are_taken(client, metrics):
    for name in ("bücher 2026.csv", "数据.csv", "100%.csv", "a?b#c.csv", "<b>.csv"):
        answer = client.put(f"/inbox/metrics/{quote(name, safe='')}", content=BODY)
        assert answer.status_code == 201
    assert files_in(metrics) == sorted(["bücher 2026.csv", "数据.csv", "100%.csv", "a?b#c.csv", "<b>.csv"])


def test_an_inbox_with_subfolders_takes_them_and_no_hidden_ones(client, settings):
    assert client.put("/inbox/deep/2026/11/a.csv", content=BODY).status_code == 201
    assert (settings.inbox_dir / "deep/2026/11/a.csv").read_bytes() == BODY
    assert client.put("/inbox/deep/.git/a.csv", content=BODY).status_code == 422


def test_no_symbolic_link_leads_out_of_the_inbox(client, settings, tmp_path):
    (settings.inbox_dir / "deep" / "out").symlink_to(tmp_path)
    answer = client.put("/inbox/deep/out/a.csv", content=BODY)
    assert (answer.status_code, "symbolic link" in answer.json()["detail"]) == (400, True)
    assert not (tmp_path / "a.csv").exists()


def test_a_done_file_is_taken_where_the_inbox_waits_for_one(client, settings):
    assert client.put("/inbox/done/a.csv.done", content=b"").status_code == 201
    assert client.put("/inbox/done/a.exe.done", content=b"").status_code == 422
    assert client.put("/inbox/metrics/a.csv.done", content=b"").status_code == 422


def test_a_file_that_is_too_large_is_refused_before_it_is_sent_and_while_it_is_if_its_size_was_not_reported(
    client, metrics
):
    reported = client.put("/inbox/metrics/a.csv", content=b"x" * 1001)
    unreported = client.put("/inbox/metrics/a.csv", content=(b"x" * 100 for _ in range(11)))
    assert (reported.status_code, unreported.status_code) == (413, 413)
    assert "at most 1,000 are taken here" in reported.json()["detail"]
    assert files_in(metrics) == []


def test_an_inbox_that_takes_more_is_limited_by_max_upload_bytes(settings, tmp_path):
    small = page_settings(tmp_path / "small", max_upload_bytes=5)
    with served_page(small) as page, page.client() as client:
        assert client.put("/inbox/metrics/a.csv", content=b"123456").status_code == 413
        assert client.put("/inbox/metrics/a.csv", content=b"12345").status_code == 201


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"Content-Digest": f"sha-256=:{base64.b64encode(b'x' * 32).decode()}:"}, 400, "is another one"),
        ({"Content-Digest": "sha-256=nonsense"}, 400, "Content-Digest: expected"),
        ({"Content-Encoding": "gzip"}, 415, "upload orders.csv.gz instead"),
        ({"Content-Range": "bytes 0-9/20"}, 400, "a part of one"),
        ({"If-Match": '"x"'}, 412, "nothing is ever overwritten"),
    ],
)
def test_what_a_header_asks_for_in_vain_is_reported(client, metrics, headers, status, why):
    answer = client.put("/inbox/metrics/a.csv", content=BODY, headers=headers)
    assert (answer.status_code, why in answer.json()["detail"]) == (status, True)
    assert files_in(metrics) == []


def test_a_digest_that_is_right_is_taken(client):
    digest = base64.b64encode(hashlib.sha512(BODY).digest()).decode()
    headers = {"Content-Digest": f"sha-512=:{digest}:"}
    assert client.put("/inbox/metrics/a.csv", content=BODY, headers=headers).status_code == 201


def test_an_inbox_that_is_not_there_is_reported_with_those_that_are(client):
    answer = client.put("/inbox/nope/a.csv", content=BODY)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no inbox 'nope'; there are: metrics, deep, done"


def test_on_a_disk_without_room_for_it_it_is_refused_before_it_is_sent(client, metrics, monkeypatch):
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: uploads.shutil._ntuple_diskusage(100, 95, 5))
    answer = client.put("/inbox/metrics/a.csv", content=BODY)
    assert answer.status_code == 507
    assert answer.json()["detail"] == "there is no room for a.csv on the disk of metrics"
    assert files_in(metrics) == []


def test_an_inbox_that_cannot_be_written_is_reported_without_a_traceback(client, metrics):
    metrics.rmdir()
    metrics.write_text("a file is in its place")
    answer = client.put("/inbox/metrics/a.csv", content=BODY)
    metrics.unlink()
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("a.csv cannot be written: ")


def test_what_became_of_a_file_is_reported_under_its_own_address(client, settings):
    with Ledger(settings.ledger_path) as ledger:
        record_arrival(ledger, "m-1", datetime(2026, 11, 24, tzinfo=UTC), {"orders.csv": "loaded"})
    reported = client.get("/inbox/metrics/orders.csv").json()
    assert (reported["state"], reported["rows"], reported["arrival_id"]) == ("loaded", 10, "m-1")
    assert client.get("/inbox/deep/orders.csv").status_code == 404
    assert client.get("/inbox/metrics/other.csv").status_code == 404


def test_what_a_kill_left_of_an_upload_is_removed_after_a_day(client, settings, metrics):
    inboxes = read_inboxes(settings.inboxes_file, settings.inbox_dir)
    deep = settings.inbox_dir / "deep" / "sub"
    spool = settings.state_dir / "uploads"
    for folder in (deep, spool):
        folder.mkdir()
    old = [metrics / ".1.uploading", deep / ".1.uploading", spool / ".1.uploading"]
    for partial in [*old, metrics / ".2.uploading", metrics / "a.csv"]:
        partial.touch()
    (spool / ".3.uploading.d").mkdir()
    a_day_ago = time.time() - 86_401
    for partial in [*old, spool / ".3.uploading.d", metrics / "a.csv"]:
        os.utime(partial, (a_day_ago, a_day_ago))
    clear_forgotten(settings, inboxes)
    assert files_in(metrics) == [".2.uploading", "a.csv"]
    assert files_in(deep) == files_in(spool) == []
