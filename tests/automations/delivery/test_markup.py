"""Hostile values of an alert, as each kind of service receives them.

For services with a fixed host (Slack, Discord, Telegram) Apprise's constants are patched to the receiver's URL; the
request is the same.
"""

import html
import json
import re
from collections.abc import Generator
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from apprise import Apprise, NotifyBase, NotifyFormat, OverflowMode
from apprise.conversion import convert_between  # pyright: ignore[reportUnknownVariableType]
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.google_chat import NotifyGoogleChat
from apprise.plugins.slack import NotifySlack
from apprise.plugins.telegram import NotifyTelegram
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from automations.delivery.models import Alert
from automations.delivery.send import Markup, deliver, escape, prepare
from tests.mail_server import MailServer
from tests.receiver import Receiver, receiving

# Apprise's mail plugin imports it, on the Pythons that have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

LINK = "http://127.0.0.1:4200/runs/flow-run/0f_1a_2b?x=1&y=2"
HOSTILE = (
    "Message: <!channel> <!here|all> <@U024BE7LH> <http://evil.example|your bank> [bank](http://evil.example)"
    " @everyone @here <at>boss@example.org</at> <users/all> *bold* _it_ ~no~ `code` ||spoiler|| <b>x</b>"
    " &lt;!channel&gt; <script>alert(1)</script>"
)
ALERT = Alert.of("Failed: <!channel> *a* <http://evil.example|b>\r\nBcc: all@example.org", f"{HOSTILE}\n# head\n{LINK}")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        receiver.body = b"ok"
        page = receiver.page("/hook")
        monkeypatch.setattr(NotifySlack, "webhook_url", page)
        monkeypatch.setattr(NotifyDiscord, "notify_url", page)
        monkeypatch.setattr(NotifyGoogleChat, "notify_url", page)
        monkeypatch.setattr(NotifyTelegram, "notify_url", f"{page}/")
        yield receiver


def sent(receiver: Receiver, url: str, alert: Alert = ALERT) -> dict[str, Any]:
    """Send an alert and return the JSON that arrives."""
    [delivery] = deliver(alert, [url.replace("HOST", f"127.0.0.1:{receiver.port}")], "failure")
    assert delivery.failure is None
    return json.loads(receiver.requests[-1].body)


SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7/#alerts"


@pytest.mark.parametrize("more", ["", "?format=markdown", "?format=text", "?blocks=yes"])
def test_slack_shows_a_value_letter_by_letter_and_mentions_no_one(receiver: Receiver, more: str) -> None:
    [attachment] = sent(receiver, SLACK + more)["attachments"]
    if "blocks" in more:
        assert [block["text"]["type"] for block in attachment["blocks"][:2]] == ["plain_text"] * 2
        body = attachment["blocks"][1]["text"]["text"]
    else:
        body = attachment["text"]
        assert "<" not in attachment["title"]
    assert not re.search(r"[<>]", body)
    assert "&amp;lt;!channel" in body, "an entity in a value is shown literally"
    assert html.unescape(body).replace("\u2060", "").splitlines()[-1] == LINK


def test_google_chat_gets_neither_links_nor_mentions(receiver: Receiver) -> None:
    text = sent(receiver, "gchat://workspace/key/token")["text"]
    assert not re.search(r"[<>]", text)
    assert html.unescape(text).splitlines()[-1] == LINK


@pytest.mark.parametrize("more", ["", "?format=markdown"])
def test_discord_shows_markdown_as_text_and_pings_no_one(receiver: Receiver, more: str) -> None:
    payload = sent(receiver, "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js" + more)
    text = payload["content"] if not more else payload["embeds"][0]["description"]
    assert not re.search(r"(?<!\\)[*~`|<>]", text.replace(LINK, ""))
    assert "@everyone" not in text
    assert text.splitlines()[-1] == LINK
    assert not {"everyone", "here"} & {*payload.get("allow_mentions", {}).get("parse", [])}


@pytest.mark.parametrize(
    "url",
    [
        "mmost://HOST/3ccdd113474722377935511fc85d3dd4",
        "gotify://HOST/token0123456789?format=markdown",
    ],
)
def test_a_service_that_reads_markdown_shows_the_text(receiver: Receiver, url: str) -> None:
    texts = json.dumps(sent(receiver, url), ensure_ascii=False)
    assert "evil.example|" in texts.replace("\\", "")
    assert LINK in texts
    for pattern in (r"<!channel", r"<http:", r"\]\(http", r"<at>", r"@everyone", r"(?<!\\)\*bold"):
        assert not re.search(pattern, texts), pattern


def test_telegram_gets_html_in_which_nothing_is_a_tag(receiver: Receiver) -> None:
    for more in ("", "?format=markdown", "?format=text"):
        payload = sent(receiver, f"tgram://123456789:AbCdEfGhIjKlMnOpQrStUvWxYz0123456789/12315544{more}")
        assert payload["parse_mode"] == "HTML"
        tags = set(re.findall(r"</?[a-z!][^>]*>", payload["text"]))
        assert tags <= {"<b>", "</b>"}
        assert html.unescape(payload["text"]).splitlines()[-1] == LINK


@pytest.mark.parametrize("kind", ["html", "text"])
def test_a_mail_has_one_subject_and_no_tag_of_a_value(kind: str) -> None:
    server = MailServer()
    try:
        to = f"mailto://127.0.0.1:{server.port}/?to=ops@example.org&from=p@example.org&format={kind}"
        assert deliver(ALERT, [to], "failure")[0].delivered
    finally:
        server.close()
    mail = message_from_bytes(server.mails[0], policy=default)
    assert mail["Subject"] == ALERT.subject
    assert mail["Bcc"] is None
    assert mail["To"] == "ops@example.org"
    for part in mail.walk():
        if part.get_content_type() == "text/html":
            content = part.get_content()
            assert "<script" not in content
            assert "<b>x" not in content
            assert LINK in html.unescape(content)


@pytest.mark.parametrize("kind", ["json", "xml", "form"])
def test_a_webhook_gets_the_text_and_nothing_is_escaped_twice(receiver: Receiver, kind: str) -> None:
    alert = Alert.of("Failed: a & b", "Message: 5 < 6 *x* _y_\n- z")
    [delivery] = deliver(alert, [f"{kind}://127.0.0.1:{receiver.port}/hook"], "failure")
    assert delivery.delivered
    text = receiver.requests[-1].text
    if kind == "json":
        assert json.loads(text)["message"] == alert.body
    elif kind == "xml":
        assert "5 &lt; 6 *x* _y_\n- z" in text


def test_ntfy_gets_the_text(receiver: Receiver) -> None:
    payload = sent(receiver, "ntfy://HOST/alerts")
    assert (payload["title"], payload["message"]) == (ALERT.subject, ALERT.body)


COMMON_MARK = MarkdownIt("commonmark")


def shown(markdown: str) -> str:
    """Return the visible text of a paragraph of Markdown."""
    rendered = COMMON_MARK.render(markdown)
    return html.unescape(re.sub(r"</?p>", "", rendered)).strip("\n")


@given(st.text(alphabet="ab1 \\`*_~|[]()<>#!&;+-=.\n", max_size=60))
@example("---")
@example("a\n-- -\n===")
def test_escaped_markdown_is_shown_letter_by_letter(text: str) -> None:
    # Markdown drops spaces at the ends of a line and empty lines, also from escaped text.
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    assert shown(escape("\n".join(lines), Markup.MARKDOWN)).split("\n") == (lines or [""])


@given(st.text(max_size=80))
def test_escaped_entities_leave_no_angle_bracket_and_lose_no_letter(text: str) -> None:
    escaped = escape(text, Markup.ENTITIES)
    assert not {"<", ">"} & {*escaped}
    assert html.unescape(escaped) == html.unescape(html.escape(text, quote=False))


EVERY = [
    SLACK,
    f"{SLACK}?blocks=yes",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?format=markdown",
    "tgram://123456789:AbCdEfGhIjKlMnOpQrStUvWxYz0123456789/12315544",
    "mmost://127.0.0.1/3ccdd113474722377935511fc85d3dd4",
    "workflow://127.0.0.1/643e69f83c8944438d68119179a10a64/0ec3a9c4dbd64e1a9dc9f9cc1a1c9b3d",
    "gchat://workspace/key/token",
    "ntfy://127.0.0.1/alerts",
    "gotify://127.0.0.1/token0123456789",
    "pagerduty://0123456789abcdef0123456789abcdef@0123456789abcdef0123456789abcdef",
    "pover://" + "a" * 30 + "@" + "b" * 30,
    "rocket://user:password@127.0.0.1/#channel",
    "zulip://bot@organization/" + "a" * 32 + "/channel",
    "mailto://127.0.0.1/?to=a@example.org&from=b@example.org",
    "json://127.0.0.1",
]


def service(url: str) -> Any:
    found: Any = Apprise.instantiate(url)  # pyright: ignore[reportUnknownMemberType]
    assert isinstance(found, NotifyBase), url
    found.overflow_mode = OverflowMode.TRUNCATE
    return found


def test_teams_shows_markdown_as_text_and_mentions_no_one() -> None:
    teams = service("workflow://host/643e69f83c8944438d68119179a10a64/0ec3a9c4dbd64e1a9dc9f9cc1a1c9b3d")
    made = prepare(teams, ALERT)
    for text in (made.subject, made.body.replace(LINK, "")):
        assert not re.search(r"(?<!\\)[*`~<>\[\]]|<at>", text)
    assert made.body.splitlines()[-1] == LINK


LONG = Alert.of(
    "Rejected: 2000 files of orders " + "x" * 300,
    "\n".join([f"File {number:04}: *{number}* <no> & column_{number}" for number in range(2000)])
    + f"\nNext: drop them again\n{LINK}",
)


@pytest.mark.parametrize("url", EVERY)
def test_no_service_is_sent_more_than_it_takes_and_the_link_at_the_end_stays(url: str) -> None:
    one = service(url)
    made = prepare(one, LONG)
    body, title = (
        str(convert_between(NotifyFormat.TEXT, one.notify_format, text)) for text in (made.body, made.subject)
    )
    [chunk] = one._apply_overflow(
        body=body, title=title if one.title_maxlen <= 0 else made.subject, body_format=NotifyFormat.TEXT
    )
    assert chunk["body"].rstrip().endswith(body.rstrip()[-60:]), "Apprise cuts nothing off"
    assert len(chunk["body"]) <= one.body_maxlen
    assert len(chunk["title"]) <= max(one.title_maxlen, 0)
    if one.body_maxlen > 400:
        assert LINK in html.unescape(made.body)
        assert made.body.startswith(("File 0000", "File 0000"))
    if len(LONG.body) > one.body_maxlen:
        assert "characters are left out here" in made.body


def test_a_text_message_of_160_characters_is_filled() -> None:
    one = service("voipms://password:user@example.com/18005551212/18005551213")
    made = prepare(one, Alert("Failed: pipeline, run otter", LONG.body))
    assert len(made.subject) + len(made.body) + 2 <= 160
    assert made.body.endswith("…")


def test_a_url_with_overflow_split_gets_the_whole_text_in_several_messages(receiver: Receiver) -> None:
    text = "\n".join(f"line {number}" for number in range(600))
    url = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?overflow=split"
    [delivery] = deliver(Alert("Failed", text), [url], "failure")
    assert delivery.delivered
    assert len(receiver.requests) > 1
    everything = "".join(json.loads(request.body)["content"] for request in receiver.requests)
    assert all(f"line {number}" in everything for number in range(600))


def test_a_message_of_many_emoji_fits_into_discord(receiver: Receiver) -> None:
    payload = sent(
        receiver, "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", Alert.of("Failed", "\N{GRINNING FACE} " * 5000)
    )
    assert len(payload["content"].encode("utf-16-le")) // 2 <= 2000
