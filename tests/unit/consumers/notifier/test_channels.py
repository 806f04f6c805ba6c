"""Messages on the wire: to a real HTTP server and a real SMTP server, on loopback."""

from __future__ import annotations

import asyncio
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from structlog.testing import capture_logs

from consumers.notifier.channels import (
    EmailChannel,
    NotSent,
    SlackChannel,
    WebhookChannel,
    chat_text,
    signature,
)
from consumers.notifier.configuration import Email, Slack, Webhook
from consumers.notifier.grouping import Delivery, Group
from consumers.notifier.messages import Message, message_of
from consumers.notifier.notices import Notice, NoticeKind
from infra.servers.kafka.certificates import Certificates
from pipeline.clock import ManualClock
from pipeline.errors import Misconfigured
from schemas.description import PowerCycleState
from schemas.ids import new_ulid
from schemas.power import PowerOutlet
from tests.unit.consumers.notifier.lab import NOON


def message(
    count: int = 2, *, kind: NoticeKind = NoticeKind.DOWN, page: str | None = "http://lab/", **why: str
) -> Message:
    """Behind the controllers that are named; in `why`, what is wrong with each."""
    controllers = ["mpower/a"] if not why else [*why] * count
    outlets = {
        f"m{number:03}": PowerOutlet(
            machine_id=f"m{number:03}",
            agent="rack4",
            controller=controller,
            port="1",
            state=PowerCycleState.IN_ERROR,
            text=why.get(controller, ""),
            reported_at=NOON,
        )
        for number, controller in enumerate(controllers)
    }
    notices = [
        Notice(kind=kind, machine_id=f"m{number:03}", pools=("Lab",), at=NOON, text="silent <since> noon")
        for number in range(count)
    ]
    group = Group(channel="c", kind=kind, began_at=NOON, latest_at=NOON + timedelta(seconds=5))
    delivery = Delivery(id=new_ulid(), group=group, made_at=NOON, not_before=NOON)
    return message_of(delivery, notices, outlets, page)


class Receiver:
    def __init__(self) -> None:
        self.status = 200
        self.retry_after: str | None = None
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        headers = {"Location": "/elsewhere"}
        if self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        return web.Response(status=self.status, headers=headers)


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, aiohttp.ClientSession]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    receiver.url = str(server.make_url("/hook"))
    async with aiohttp.ClientSession() as session:
        yield receiver, session
    await server.close()


async def test_a_webhook_gets_signed_json() -> None:
    async with receiving() as (receiver, session):
        channel = WebhookChannel(
            session, Webhook(url=receiver.url, secret_env="KEY"), {"KEY": "hush"}, ManualClock(NOON)
        )
        sent = message()
        await channel.send(sent)
    [(headers, body)] = receiver.requests
    seconds = int(NOON.timestamp())
    expected = hmac.new(b"hush", f"{seconds}.".encode() + body, "sha256").hexdigest()
    assert headers["Labkeeper-Signature"] == f"t={seconds},v1={expected}"
    assert headers["Labkeeper-Delivery"] == sent.id
    document = json.loads(body)
    assert (document["id"], document["kind"], document["count"]) == (sent.id, "down", 2)
    assert document["headline"] == "2 machines are down"
    assert document["machines"][0] == {
        "id": "m000",
        "pools": ["Lab"],
        "at": "2026-03-01T12:00:00Z",
        "text": "silent <since> noon",
        "url": "http://lab/?machine=m000",
    }


def test_another_body_has_another_signature() -> None:
    assert signature("hush", 1, b"a") != signature("hush", 1, b"b") != signature("hush", 2, b"b")


@pytest.mark.parametrize("status", [302, 404, 429, 500])
async def test_any_other_answer_is_not_sent(status: int) -> None:
    async with receiving() as (receiver, session):
        receiver.status = status
        channel = WebhookChannel(
            session, Webhook(url=receiver.url, secret_env="KEY"), {"KEY": "hush"}, ManualClock(NOON)
        )
        with pytest.raises(NotSent, match=f"answers {status}"):
            await channel.send(message())
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "retry_after", "rest_s"),
    [(429, "30", 30), (503, "7", 7), (429, "999999", 3600), (429, None, 0), (429, "soon", 0), (500, "30", 0)],
)
async def test_a_receiver_may_say_when_it_wants_the_message_again(
    status: int, retry_after: str | None, rest_s: float
) -> None:
    async with receiving() as (receiver, session):
        receiver.status, receiver.retry_after = status, retry_after
        with pytest.raises(NotSent) as caught:
            await SlackChannel(session, Slack(url_env="URL"), {"URL": receiver.url}).send(message())
    assert caught.value.rest_s == rest_s


async def test_a_receiver_that_is_away_is_not_sent_and_a_missing_secret_is_named() -> None:
    async with aiohttp.ClientSession() as session:
        hook = Webhook(url="http://127.0.0.1:1/hook", secret_env="KEY")
        with pytest.raises(NotSent, match="cannot be reached"):
            await WebhookChannel(session, hook, {"KEY": "hush"}, ManualClock(NOON)).send(message())
        with pytest.raises(Misconfigured, match="put it into KEY"):
            await WebhookChannel(session, hook, {}, ManualClock(NOON)).send(message())
        with pytest.raises(Misconfigured, match="no URL"):
            await SlackChannel(session, Slack(url_env="URL"), {"URL": "no url"}).send(message())


def test_controllers_that_do_not_answer_are_named_with_their_reason() -> None:
    told = message(3, kind=NoticeKind.CONTROLLER, switch1="turned away: wrong password", pdu2="")
    assert told.headline == "3 machines have power controllers that do not answer: switch1, pdu2"
    assert list(told.common) == [
        "Pools: Lab 3",
        "switch1 (2 machines): turned away: wrong password",
        "pdu2 (1 machine): no reason is known",
    ]
    one = message(1, kind=NoticeKind.CONTROLLER, switch1="no answer\nwithin 5 s")
    assert one.headline == "m000 has a power controller that does not answer: switch1"
    assert list(one.common) == ["switch1 (1 machine): no answer within 5 s"]


@pytest.mark.parametrize("kind", [NoticeKind.CONTROLLER, NoticeKind.DOWN])
async def test_no_name_begins_a_line_of_its_own(kind: NoticeKind) -> None:
    """A label of somebody's configuration may have anything in it."""
    strange = "switch\r\nBcc: everybody@lab\u2028\x85x"
    told = message(2, kind=kind, **{strange: ""})
    for line in (told.headline, *told.common):
        assert len(line.splitlines()) == 1
    async with mailing() as (mailbox, server):
        await EmailChannel(entry(server), {}).send(told)
    [mail] = mailbox.mails
    assert mail["Bcc"] is None
    assert mailbox.receivers == [["a@lab", "b@lab"]]


async def test_slack_gets_a_text() -> None:
    async with receiving() as (receiver, session):
        await SlackChannel(session, Slack(url_env="URL"), {"URL": receiver.url}).send(message())
    assert json.loads(receiver.requests[0][1])["text"].splitlines() == [
        "*2 machines are down*",
        "Pools: Lab 2",
        "Power controllers: mpower/a 1",
        "• m000: silent &lt;since&gt; noon",
        "• m001: silent &lt;since&gt; noon",
        "http://lab/",
    ]


def test_many_machines_are_one_short_text() -> None:
    lines = chat_text(message(500, page=None)).splitlines()
    assert lines[0] == "*500 machines are down*"
    assert lines[-1] == "• and 480 more"
    assert len(lines) < 30


@pytest.mark.parametrize("kind", [NoticeKind.GAVE_UP, NoticeKind.CONTROLLER])
def test_a_text_is_as_long_as_every_chat_takes(kind: NoticeKind) -> None:
    reasons = {f"{'x' * 290}{number}": "r" * 290 for number in range(5)}
    told = message(500, kind=kind, **reasons)
    notices = [each.model_copy(update={"text": "&" * 100 + each.text * 20}) for each in told.notices]
    text = chat_text(replace(told, notices=notices))
    assert len(text) <= 2000
    assert text.splitlines()[-1] == "http://lab/"
    if kind is NoticeKind.GAVE_UP:
        assert "• m000" in text
        assert "more" in text.splitlines()[-2]


def test_one_machine_is_called_by_its_name() -> None:
    assert chat_text(message(1)).splitlines() == [
        "*m000 is down*",
        "• m000: silent &lt;since&gt; noon",
        "http://lab/?machine=m000",
    ]


class Mailbox:
    """What the SMTP server has taken."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.receivers: list[list[str]] = []
        self.refuse = False
        self.unknown: set[str] = set()

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse:
            return "451 4.3.0 come back later"
        content = cast("bytes", envelope.content)
        self.mails.append(
            cast("EmailMessage", message_from_bytes(content, policy=cast("Any", policy.default)))
        )
        self.receivers.append(envelope.rcpt_tos)
        return "250 OK"


@asynccontextmanager
async def mailing(tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[tuple[Mailbox, str]]:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop, **options), "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield mailbox, f"{host}:{port}"


def entry(server: str, **fields: object) -> Email:
    return Email.model_validate(
        {"to": ["a@lab", "b@lab"], "from": "keeper@lab", "server": server, "security": "none", **fields}
    )


async def test_mail_reaches_everybody() -> None:
    async with mailing() as (mailbox, server):
        sent = message(600)
        await EmailChannel(entry(server), {}).send(sent)
    [mail] = mailbox.mails
    assert mailbox.receivers == [["a@lab", "b@lab"]]
    assert mail["Subject"] == "[labkeeper] 600 machines are down"
    assert mail["Message-ID"] == f"<{sent.id}@lab>"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert "m000: silent <since> noon" in text
    assert "and 100 more" in text
    assert text.rstrip().endswith("http://lab/")


async def test_a_mail_server_that_refuses_is_not_sent() -> None:
    async with mailing() as (mailbox, server):
        mailbox.refuse = True
        with pytest.raises(NotSent, match="come back later"):
            await EmailChannel(entry(server), {}).send(message())
    with pytest.raises(NotSent, match="does not take it"):
        await EmailChannel(entry(server), {}).send(message())


async def test_a_receiver_that_the_mail_server_does_not_know_is_told_of() -> None:
    with capture_logs() as told:
        async with mailing() as (mailbox, server):
            mailbox.unknown = {"b@lab"}
            await EmailChannel(entry(server), {}).send(message())
    assert mailbox.receivers == [["a@lab"]]
    [line] = [each for each in told if each["event"] == "receivers_refused"]
    assert line["reasons"] == {"b@lab": "5.1.1 no such user"}


async def test_a_server_without_tls_gets_no_password() -> None:
    def anybody(*_: object) -> AuthResult:
        return AuthResult(success=True)

    options: dict[str, Any] = {"authenticator": anybody, "auth_require_tls": False}
    async with mailing(**options) as (mailbox, server):
        wanting = entry(server, security="starttls", user="u", password_env="P")
        with pytest.raises(NotSent) as caught:
            await EmailChannel(wanting, {"P": "hush"}).send(message())
    assert mailbox.mails == []
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_password_goes_to_a_server_whose_certificate_is_trusted_and_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    given: list[object] = []

    def only_ann(_server: object, _session: object, _envelope: object, _how: str, said: object) -> AuthResult:
        given.append(said)
        return AuthResult(success=said == LoginPassword(b"ann", b"hush"))

    files = Certificates.issue(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.server_keystore)
    options: dict[str, Any] = {"authenticator": only_ann, "auth_require_tls": security == "starttls"}
    if security == "starttls":
        options |= {"tls_context": tls, "require_starttls": True}
    async with mailing(tls if security == "tls" else None, **options) as (mailbox, server):
        channel = EmailChannel(entry(server, security=security, user="ann", password_env="P"), {"P": "hush"})
        with pytest.raises(NotSent, match="certificate"):
            await channel.send(message())
        assert given == []
        monkeypatch.setenv("SSL_CERT_FILE", str(files.ca_file))
        await channel.send(message())
    assert len(mailbox.mails) == len(given) == 1


@pytest.mark.parametrize("server", ["a..b:25", f"{'x' * 70}.example:25", "127.0.0.1:99999"])
async def test_a_mail_server_that_cannot_be_is_a_mistake_in_the_file(server: str) -> None:
    with pytest.raises(Misconfigured, match="check server"):
        await EmailChannel(entry(server), {}).send(message())


async def test_a_url_that_cannot_be_is_a_mistake_in_the_file() -> None:
    async with receiving() as (_, session):
        slack = SlackChannel(session, Slack(url_env="URL"), {"URL": "http://a..b/hook"})
        with pytest.raises(Misconfigured, match="no URL"):
            await slack.send(message())


@pytest.mark.parametrize(("unnamed", "headline"), [(1, "1 machine is down"), (7, "7 machines are down")])
def test_machines_that_nobody_can_name_any_more_are_told_of_by_number(unnamed: int, headline: str) -> None:
    """Those that were named are back by now, and the others were too many to be named."""
    group = Group(channel="c", kind=NoticeKind.DOWN, began_at=NOON, latest_at=NOON, unnamed=unnamed)
    delivery = Delivery(id=new_ulid(), group=group, made_at=NOON, not_before=NOON)
    told = message_of(delivery, [], {}, "http://lab/")
    assert (told.headline, told.common) == (headline, [])
    assert "http://lab/" in chat_text(told)
