"""What of an address may be shown: everything but credentials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.sources.redact_url import redact_url, source_name

SECRET = st.text(alphabet="sS€cret%40:;=+&", min_size=1).map(lambda text: f"zz{text}zz")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v1/metrics", "https://host/v1/metrics"),
        ("https://me:pw@host:8080/v1?key=x#top", "https://host:8080/v1"),
        ("https://host/x?mail=a@b.com", "https://host/x"),
        ("https://me:p@w@host/x", "https://host/x"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("invalid://me:pw@url", "invalid://url"),
        ("file:///data/orders.csv", "file:///data/orders.csv"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_user_password_query_and_fragment_are_left_out(url: str, shown: str):
    assert redact_url(url) == shown


@given(SECRET)
def test_a_password_is_never_shown_however_it_is_quoted(secret: str):
    assert "zz" not in redact_url(f"https://me:{secret}@host/path")


@pytest.mark.parametrize("secret", ["a/zz", "a?zz", "a#zz", "a@b/zz", "/zz", "zz"])
def test_a_password_with_bare_separators_is_not_shown_either(secret: str):
    assert "zz" not in redact_url(f"https://me:{secret}@host/path?q=zz").replace("/zz", "")


@given(st.text())
def test_it_takes_whatever_somebody_typed(text: str):
    assert isinstance(redact_url(text), str)


def test_an_http_source_is_named_by_host_and_path():
    assert source_name("https://me:pw@Example.com:8080/v1/metrics?key=x") == "example.com/v1/metrics"
