"""Where messages go. A channel sends one, once; whoever calls it tries again.

Webhook: a JSON document, with `Labkeeper-Signature: t=<seconds since 1970>,v1=<hex>`, the HMAC-SHA256 of `<t>.<body>` under the shared
secret, and `Labkeeper-Delivery`, the message's id, by which a receiver knows one that it has had. Slack: the text of an
incoming webhook. E-mail: SMTP, with the message's id in `Message-ID`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final, Protocol, assert_never

import aiohttp
import orjson

from consumers.notifier.configuration import ChannelEntry, Configuration, Email, Slack, Webhook
from consumers.notifier.messages import Message
from pipeline import logs
from pipeline.clock import Clock
from pipeline.errors import Misconfigured

_LIMIT_S: Final = 30.0
_NAMED_IN_CHAT: Final = 20
_NAMED_IN_MAIL: Final = 500
_LONGEST_CHAT: Final = 1900
"""Characters. Discord takes 2,000 and refuses what is longer; the others take more."""
_LONGEST_LINE: Final = 250
_WANTS_REST: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LONGEST_REST_S: Final = 3600.0

log = logs.get_logger()


class NotSent(Exception):
    """The receiver did not take it, as far as we know. The text says why, and shows no secret."""

    def __init__(self, why: str, *, rest_s: float = 0.0) -> None:
        """`rest_s`: so long the receiver wants to be left alone."""
        super().__init__(why)
        self.rest_s = rest_s


class Channel(Protocol):
    """Takes messages."""

    async def send(self, message: Message) -> None:
        """Return once the receiver has it. Raises `NotSent`, and `Misconfigured` when a secret cannot be read."""
        ...


class WebhookChannel:
    """Posts signed JSON."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        entry: Webhook,
        environment: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._session = session
        self._entry = entry
        self._environment = environment
        self._clock = clock

    async def send(self, message: Message) -> None:
        """See `Channel`."""
        secret = self._entry.secret.read(self._environment, "the webhook's secret")
        body = orjson.dumps(message.document())
        seconds = int(self._clock.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "Labkeeper-Delivery": message.id,
            "Labkeeper-Signature": f"t={seconds},v1={signature(secret, seconds, body)}",
        }
        await _post(self._session, self._entry.url, body, headers, "the webhook")


def signature(secret: str, seconds: int, body: bytes) -> str:
    """HMAC-SHA256 of `<seconds>.<body>`, in hex."""
    return hmac.new(secret.encode(), b"%d.%b" % (seconds, body), hashlib.sha256).hexdigest()


class SlackChannel:
    """Posts a text to an incoming webhook."""

    def __init__(self, session: aiohttp.ClientSession, entry: Slack, environment: Mapping[str, str]) -> None:
        self._session = session
        self._entry = entry
        self._environment = environment

    async def send(self, message: Message) -> None:
        """See `Channel`."""
        url = self._entry.url.read(self._environment, "the Slack webhook's URL")
        body = orjson.dumps({"text": chat_text(message)})
        await _post(self._session, url, body, {"Content-Type": "application/json"}, "the Slack webhook")


def chat_text(message: Message) -> str:
    """The message as Slack writes it: the headline bold, a link at the end; as many machines as there is place for."""
    link = (
        message.link(message.notices[0].machine_id)
        if message.count == len(message.notices) == 1
        else message.page
    )
    head = [f"*{_shown(message.headline)}*", *map(_shown, message.common)]
    named = 0
    if message.count > 1 or any(each.text for each in message.notices):
        named = _NAMED_IN_CHAT
    while True:
        lines = [f"• {_shown(line)}" for line in message.lines(named)] if named else []
        text = "\n".join([*head, *lines, *([link] if link else [])])
        if len(text) <= _LONGEST_CHAT or not named:
            return text
        named -= 1


def _shown(text: str) -> str:
    """On a line of a chat."""
    short = text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def _post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], what: str
) -> None:
    timeout = aiohttp.ClientTimeout(total=_LIMIT_S)
    try:
        async with session.post(
            url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                raise NotSent(f"{what} answers {answer.status}", rest_s=_wanted_rest(answer))
    except (aiohttp.InvalidURL, UnicodeError) as error:  # the latter: a host that cannot be asked for
        raise Misconfigured(f"{what} has no URL that could be posted to") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotSent(f"{what} cannot be reached ({type(error).__name__})") from error


def _wanted_rest(answer: aiohttp.ClientResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    if answer.status not in _WANTS_REST or not (text.isascii() and text.isdecimal()):
        return 0.0
    return min(float(text), _LONGEST_REST_S)


class EmailChannel:
    """Sends mail, to all receivers in one message."""

    def __init__(self, entry: Email, environment: Mapping[str, str]) -> None:
        self._entry = entry
        self._environment = environment

    async def send(self, message: Message) -> None:
        """See `Channel`."""
        try:
            import aiosmtplib  # noqa: PLC0415  # an extra
        except ModuleNotFoundError as error:
            raise Misconfigured(
                "mail needs the package 'aiosmtplib': pip install 'labkeeper[mail]'"
            ) from error
        entry = self._entry
        host, _, port = entry.server.rpartition(":")
        password = (
            entry.password.read(self._environment, "the mail password") if entry.user is not None else None
        )
        try:
            async with asyncio.timeout(_LIMIT_S):  # theirs is for each of many answers
                refused, _ = await aiosmtplib.send(
                    email_of(message, entry),
                    hostname=host,
                    port=int(port),
                    use_tls=entry.security == "tls",
                    start_tls=entry.security == "starttls",
                    username=entry.user,
                    password=password,
                    timeout=_LIMIT_S,
                )
        except (aiosmtplib.SMTPException, OSError) as error:
            reason = str(error) or type(error).__name__
            raise NotSent(f"the mail server {entry.server} does not take it: {reason}") from error
        except (ValueError, OverflowError) as error:  # the text may have a piece of the password in it
            raise Misconfigured(
                f"no mail can be sent to {entry.server} ({type(error).__name__}): check server, user and password"
            ) from error
        if refused:  # the others have it; to send it again would tell them twice
            log.warning(
                "receivers_refused",
                server=entry.server,
                reasons={to: said.message for to, said in refused.items()},
            )


def email_of(message: Message, entry: Email) -> EmailMessage:
    """The message as mail."""
    mail = EmailMessage()
    mail["Subject"] = f"[labkeeper] {message.headline}"
    mail["From"] = entry.sender
    mail["To"] = ", ".join(entry.to)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}@{entry.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    lines = [message.headline, "", *message.common, "", *message.lines(_NAMED_IN_MAIL)]
    mail.set_content("\n".join([*lines, "", message.page] if message.page else lines) + "\n")
    return mail


def open_channels(
    configuration: Configuration,
    session: aiohttp.ClientSession,
    environment: Mapping[str, str],
    clock: Clock,
) -> dict[str, Channel]:
    """The channels by name."""
    return {name: _open(entry, session, environment, clock) for name, entry in configuration.channels.items()}


def _open(
    entry: ChannelEntry, session: aiohttp.ClientSession, environment: Mapping[str, str], clock: Clock
) -> Channel:
    match entry.webhook or entry.slack or entry.email:
        case Webhook() as webhook:
            return WebhookChannel(session, webhook, environment, clock)
        case Slack() as slack:
            return SlackChannel(session, slack, environment)
        case Email() as email:
            return EmailChannel(email, environment)
        case None:
            raise AssertionError("a checked entry has one of the three")
        case never:
            assert_never(never)
