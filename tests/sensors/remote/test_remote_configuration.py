"""The configuration of remote inboxes: every mistake is told with its line, and none tells a credential."""

import sys
from pathlib import Path
from subprocess import run

import pytest

from sensors.config.inboxes import InboxesError, read_inboxes
from sensors.config.remote_url import resolved, secrets_in
from sensors.config.settings import PROJECT_ROOT


@pytest.fixture(autouse=True)
def surrounded(monkeypatch, tmp_path):
    env_file = tmp_path / "some.env"
    env_file.write_text("SFTP_PASSWORD=from-the-file\n")
    monkeypatch.setenv("ENV_FILE", str(env_file))


def mistakes(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "inboxes.yaml"
    file.write_text(text)
    with pytest.raises(InboxesError) as raised:
        read_inboxes(file, tmp_path / "inbox")
    return [line.removeprefix(f"{file}:") for line in str(raised.value).splitlines()]


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("sftp://me@host:2222/in/", "sftp://me@host:2222/in"),
        ("sftp://host/", "sftp://host/"),
    ],
)
def test_an_inbox_may_have_a_url(tmp_path, url, where):
    file = tmp_path / "inboxes.yaml"
    file.write_text(f"inboxes:\n  partner: {{url: '{url}'}}\n")
    (inbox,) = read_inboxes(file, tmp_path / "inbox")
    assert inbox.where == where
    assert inbox.at("a.csv") == f"{where.rstrip('/')}/a.csv"


@pytest.mark.parametrize(
    ("url", "reported"),
    [
        ("ftp://host/in", "expected a URL that begins with s3://, gs:// or sftp://"),
        ("s3:bucket/in", "expected a URL that begins with s3://"),
        ("/srv/in", "expected a URL that begins with s3://"),
        ("s3://", "expected s3://BUCKET/PREFIX"),
        (
            "s3://host:9000/bucket",
            "expected s3://BUCKET/PREFIX; another server",
        ),
        ("s3://key:hushhush@bucket/in", "the URL must not hold credentials"),
        ("sftp://me:hushhush@host/in", "the URL must not hold credentials"),
        ("sftp://host", "expected sftp://USER@HOST/PATH"),
        ("sftp://host:port/in", "expected a URL, got none"),
        ("s3://bucket/a/../b", "expected a path without empty parts"),
        ("s3://bucket/a//b", "expected a path without empty parts"),
        ("s3://bucket/in?versionId=1", "expected nothing behind the path"),
    ],
)
def test_a_url_that_cannot_be_used_is_reported_without_its_credentials(tmp_path, url, reported):
    (line,) = mistakes(tmp_path, f"inboxes:\n  partner:\n    url: '{url}'\n")
    assert line.startswith(f"3: inboxes.partner.url: {reported}")
    assert "hushhush" not in line


def test_everything_that_does_not_go_together_is_reported_in_one_error(tmp_path):
    reported = mistakes(
        tmp_path,
        "inboxes:\n"
        "  one: {url: 's3://bucket/in', path: /srv, watch: polling}\n"
        "  two: {options: {anon: true}}\n"
        "  three: {url: 's3://bucket/in/below'}\n",
    )
    assert [line.split(": ")[1] for line in reported] == [
        "inboxes.one.path",
        "inboxes.one.watch",
        "inboxes.two.options",
        "inboxes.three.url",
    ]
    assert "is in inbox 'one'" in reported[-1]


@pytest.mark.parametrize(
    ("url", "options", "reported"),
    [
        ("s3://b/in", "secret: hushhush", "options.secret: expected the name of a variable such as ${SECRET}"),
        ("s3://b/in", "client_kwargs: {aws_secret_access_key: hushhush}", "aws_secret_access_key: expected the name"),
        ("s3://b/in", "key: '${NOWHERE_SET}'", "options.key: expected NOWHERE_SET in the environment or in .env"),
        ("s3://b/in", "asynchronous: true", "options.asynchronous: the sensor decides this by itself"),
        ("sftp://h/in", "password: hushhush", "options.password: expected the name of a variable"),
        ("sftp://h/in", "known_hosts: null", "options.known_hosts: expected the path of a file"),
    ],
)
def test_an_option_that_cannot_be_used_is_reported_with_its_line_and_not_its_value(tmp_path, url, options, reported):
    (line,) = mistakes(tmp_path, f"inboxes:\n  partner:\n    url: '{url}'\n    options:\n      {options}\n")
    assert line.startswith("5: inboxes.partner.options.")
    assert reported in line
    assert "hushhush" not in line


def test_an_option_may_name_a_variable_of_the_environment_or_of_the_env_file(tmp_path):
    file = tmp_path / "inboxes.yaml"
    file.write_text("inboxes:\n  p: {url: 'sftp://h/in', options: {password: '${SFTP_PASSWORD}'}}\n")
    (inbox,) = read_inboxes(file, tmp_path)
    around = {"SFTP_PASSWORD": "from-the-file", "AWS_SECRET_ACCESS_KEY": "/another+one"}
    assert inbox.options == {"password": "${SFTP_PASSWORD}"}
    assert resolved({**inbox.options, "a": ["x-${SFTP_PASSWORD}", 1]}, around) == {
        "password": "from-the-file",
        "a": ["x-from-the-file", 1],
    }
    assert secrets_in(inbox.options, around) == {"from-the-file", "/another+one"}
    assert secrets_in({"client_keys": ["${KEY}"]}, {"KEY": "/etc/keys/partner"}) == frozenset()


def test_nothing_of_the_filesystems_is_imported_before_an_inbox_needs_it():
    code = (
        "import sys, sensors.daemon.process, sensors.cli.preview, sensors.stack.drop, sensors.recovery.rebuild;"
        "print([m for m in ('fsspec', 's3fs', 'gcsfs', 'sshfs', 'asyncssh', 'botocore') if m in sys.modules])"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert done.stdout.strip() == "[]"


def test_google_is_asked_by_http_alone():
    inbox = "Inbox(name='p', path='/unused', url='gs://b/in', options={'token': 'anon'})"
    code = (
        "from sensors.config.inboxes import Inbox; from sensors.remote.open import open_store;"
        f"print(type(open_store({inbox}).filesystem).__module__)"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert done.stdout.strip() == "gcsfs.core"
