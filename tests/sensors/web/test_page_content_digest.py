"""Content-Digest as RFC 9530 has it."""

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.web.uploads import DigestError, content_digest, expected_digests

SHA256 = hashlib.sha256(b"a,b\n").digest()
SHA512 = hashlib.sha512(b"a,b\n").digest()


def member(name: str, digest: bytes) -> str:
    return f"{name}=:{base64.b64encode(digest).decode()}:"


def test_the_example_of_the_rfc_is_read():
    header = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert expected_digests(header) == {"sha256": hashlib.sha256(b'{"hello": "world"}\n').digest()}


def test_without_a_header_nothing_is_expected():
    assert expected_digests(None) == expected_digests("") == {}


def test_several_are_all_expected_and_one_that_is_not_known_is_left_aside():
    header = f"{member('md5', b'x' * 16)}, {member('sha-256', SHA256)} ,{member('sha-512', SHA512)};q=1"
    assert expected_digests(header) == {"sha256": SHA256, "sha512": SHA512}


@pytest.mark.parametrize("header", ["sha-256", "sha-256=abc", "sha-256=:not base64:", "sha-256=:YQ:", "=:YQ==:", "a b"])
def test_what_cannot_be_read_is_reported_and_not_taken_for_none(header):
    with pytest.raises(DigestError, match="Content-Digest: expected"):
        expected_digests(header)


@given(st.binary())
def test_the_digest_sent_for_a_body_is_the_one_that_is_expected_of_it(body):
    digest = hashlib.sha256(body).digest()
    assert expected_digests(content_digest(digest)) == {"sha256": digest}


@given(st.text())
def test_no_header_makes_it_fail_otherwise(header):
    with suppress(DigestError):
        expected_digests(header)
