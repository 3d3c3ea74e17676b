"""Accounts, the limit on failed log-ins, and the audit log of both."""

import json
import stat
from pathlib import Path

import pytest

from sensors.access import log_ins as throttle
from sensors.access.accounts import Role, account_of, find_account, parse_accounts, weakness
from sensors.access.log_ins import Audit, LogIns, Throttle
from sensors.access.origins import Rejection
from tests.hand_clock import HandClock

SERVER = ("10.0.0.1", 4201)
RIGHT = b"admin:correct-horse"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def log_ins(tmp_path: Path, clock: HandClock) -> LogIns:
    accounts = [account_of("admin:correct-horse", Role.OPERATE)]
    return LogIns(accounts, Audit(tmp_path / "audit.log"), clock.clock.monotonic, "page")


def recorded(log_ins: LogIns) -> list[dict[str, str]]:
    return [json.loads(line) for line in log_ins.audit.path.read_text().splitlines()]


def guess(log_ins: LogIns, password: str, address: str = "10.0.0.66") -> object:
    return log_ins.check(f"admin:{password}".encode(), (address, 50000), SERVER)


def test_of_1450_guesses_a_second_ten_and_then_one_every_two_seconds_are_looked_at(log_ins, clock):
    looked_at = 0
    for number in range(1450 * 20):
        if number % 145 == 0:
            clock.turn(0.1)
        looked_at += guess(log_ins, str(number)) is None
    assert looked_at <= 10 + 20 / 2 + 1


def test_an_address_over_its_limit_learns_nothing_even_from_the_right_password_until_it_has_waited(log_ins, clock):
    for number in range(10):
        assert guess(log_ins, str(number)) is None
    found = guess(log_ins, "correct-horse")
    assert isinstance(found, Rejection)
    assert (found.status, found.seconds) == (429, 2)
    clock.turn(2)
    assert guess(log_ins, "correct-horse") == log_ins.accounts[0]


def test_guesses_from_one_address_lock_no_other_address_out(log_ins):
    for number in range(100):
        guess(log_ins, str(number))
    assert guess(log_ins, "correct-horse", "10.0.0.67") == log_ins.accounts[0]


def test_neighbours_in_the_network_of_one_ipv6_customer_count_as_one(log_ins):
    for number in range(10):
        assert guess(log_ins, str(number), f"2001:db8::{number}") is None
    assert isinstance(guess(log_ins, "x", "2001:db8::ffff:1"), Rejection)
    assert guess(log_ins, "x", "2001:db8:0:1::1") is None


def test_the_limit_remembers_a_bounded_number_of_addresses(clock, monkeypatch):
    monkeypatch.setattr(throttle, "MOST_ADDRESSES", 100)
    limit = Throttle(clock.clock.monotonic)
    for number in range(1000):
        limit.note_failure(f"10.0.{number // 250}.{number % 250}")
    assert len(limit) == 100


def test_log_ins_that_succeed_fail_and_are_limited_are_recorded_without_any_password(log_ins, clock):
    for number in range(12):
        guess(log_ins, f"hunter{number}")
    log_ins.check(b"hunter22:x", ("10.0.0.67", 1), SERVER)
    for _ in range(3):
        guess(log_ins, "correct-horse", "10.0.0.68")
    clock.turn(3601)
    guess(log_ins, "correct-horse", "10.0.0.68")
    lines = [(one["action"], one["user"], one["address"]) for one in recorded(log_ins)]
    assert lines == [
        *[("log in failed", "admin", "10.0.0.66")] * 10,
        ("log ins limited", "admin", "10.0.0.66"),
        ("log in failed", "unknown", "10.0.0.67"),
        *[("log in", "admin", "10.0.0.68")] * 2,
    ]
    assert "hunter" not in log_ins.audit.path.read_text()
    assert stat.S_IMODE(log_ins.audit.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "it is empty"),
        ("short", "it has fewer than 8 characters"),
        ("change-me", "it is an example that everyone knows"),
        ("administrator", "it is the same as the user name"),
        ("aaaaaaaaaaaa", "it has fewer than 4 different characters"),
        ("journeys", None),
    ],
)
def test_a_password_that_is_easy_to_guess_is_weak(password, why):
    assert weakness(password, "administrator") == why


def test_an_account_is_found_by_its_whole_credentials_alone():
    accounts = parse_accounts("look=anna:correct-horse drop=plant:battery:staple operate=ops:third-password")
    assert [one.role for one in accounts] == list(Role)
    assert find_account(b"plant:battery:staple", accounts) == accounts[1]
    for wrong in (b"", b":", b"anna", b"anna:", b"anna:battery:staple", b"ANNA:correct-horse", b"anna:correct-horse "):
        assert find_account(wrong, accounts) is None


def test_all_that_is_wrong_with_the_users_of_the_page_is_said_at_once_and_no_password_is_shown():
    text = "see=a:long-enough look=nobody look=b:short drop=b:long-enough operate=b:long-enough look=c:lang-genügend"
    with pytest.raises(ValueError, match="entry 1") as raised:
        parse_accounts(text)
    said = str(raised.value)
    assert "entry 1 (a): expected look, drop, operate before" in said
    assert "entry 2: expected user:password" in said
    assert "entry 3 (b): choose another password: it has fewer than 8 characters" in said
    assert "entry 5 (b): the user is there twice" in said
    assert "entry 6 (c): expected ASCII" in said
    assert "long-enough" not in said
