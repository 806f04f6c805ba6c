"""Reaching a Kafka cluster: how aiokafka's clients are told, what their errors mean to us, where their log lines go.

A refused password or certificate is `Misconfigured`, at the first contact as well as later: what a process holds in memory
cannot become right by trying again, whereas a restart reads the file anew. So a password is rotated by changing the file
and letting the supervisor start again whatever is turned away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from pipeline import logs
from pipeline.errors import BrokerUnavailable, LabkeeperError, Misconfigured, TurnedAway
from pipeline.settings import KafkaSettings

ANSWER_S: Final = 10.0
"""How long a cluster may take to answer a question."""
METADATA_AGE_S: Final = 30.0
"""How soon new partitions are noticed."""
_CONNECT_S: Final = 5.0
_QUIET_S: Final = 30.0

_REFUSED: Final = (
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
)
_OBJECT: Final = re.compile(r":? ?<AIOKafkaConnection [^<>]*>")
"""What some of aiokafka's errors say in place of a reason."""
_SOME_QUESTION: Final = MetadataRequest([], allow_auto_topic_creation=False)
_SILENT: Final = (
    TimeoutError,
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.NoBrokersAvailable,
    errors.RequestTimedOutError,
)
"""Errors that tell nothing of their cause."""
_TOLD_BY_US: Final = (
    'Unable connect to "%s:%s": %s',
    'Unable to request metadata from "%s:%s": %s',
)
"""aiokafka's words before a client cannot start: an error of ours follows and says more."""
_ROUTINE: Final = ("Heartbeat failed for group %s because it is rebalancing",)
"""Whenever a member joins or leaves."""
_AWAY: Final = (
    "Cannot send %r to %s: %r",
    "Could not send %r: %r",
    "Error sending %s to node %s [%s] -- marking coordinator dead",
    "Failed fetch messages from %s: %s",
    "Failed fetch offsets from %s: %s",
    "FindCoordinator Request failed: %s",
    "Group Coordinator Request failed: %s",
    "Heartbeat send request failed: %s. Will retry.",
    "Heartbeat session expired - marking coordinator dead",
    "Marking the coordinator dead (node %s)for group %s.",
    "Unable connect to node with id %s: %s",
    "Unable to request metadata from node with id %s: %r",
    "Unable to update metadata from %s",
)
"""The many ways in which it says that a node is out of reach: one of them is enough."""
_FORBIDDEN: Final = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)


class Link:
    """What is needed to reach one cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises `Misconfigured` for files that cannot be used."""
        self._settings = settings
        self._tls = _tls_context(settings) if settings.tls else None
        route_library_log()

    @property
    def servers(self) -> str:
        """For error texts."""
        return ", ".join(self._settings.servers)

    def options(self, *, request_timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Arguments that all of aiokafka's clients understand."""
        return {
            **self._security(),
            "bootstrap_servers": list(self._settings.servers),
            "client_id": "labkeeper",
            "metadata_max_age_ms": int(METADATA_AGE_S * 1000),
            "request_timeout_ms": int(request_timeout_s * 1000),
        }

    @contextlib.asynccontextmanager
    async def asking(self, doing: str, *, seconds: float = ANSWER_S) -> AsyncIterator[None]:
        """Bound what is done inside, and say what has gone wrong there. `doing` completes "kafka: while ..."."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (TimeoutError, errors.KafkaError) as error:
            raise await self.explain(doing, error) from error

    async def explain(self, doing: str, error: BaseException) -> LabkeeperError:
        """Our error for one of aiokafka's. Connects once more to find out whether we are unwelcome or nobody is there."""
        if isinstance(error, _FORBIDDEN):
            who = self._settings.username or "this client"
            return Misconfigured(
                f"kafka: while {doing}: {who} lacks a permission ({_text(error)}): see docs/brokers.md"
            )
        if isinstance(error, _SILENT):
            return await self._diagnosis(doing)
        return BrokerUnavailable(f"kafka: while {doing}: {_text(error)}")

    async def _diagnosis(self, doing: str) -> LabkeeperError:
        found = await asyncio.gather(*(self._trouble_with(server) for server in self._settings.servers))
        for trouble in found:
            if isinstance(trouble, Misconfigured):
                return trouble
        reasons = [str(trouble) for trouble in found if trouble is not None]
        where = "; ".join(reasons) or f"{self.servers} can be reached, but the cluster did not do it in time"
        if len(reasons) == len(self._settings.servers):
            where += " (--kafka-servers or LABKEEPER_KAFKA_SERVERS says where to look)"
        return BrokerUnavailable(f"kafka: while {doing}: {where}")

    async def _trouble_with(self, server: str) -> LabkeeperError | None:
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_S):
                connection = await create_conn(
                    host.strip("[]"),
                    int(port),
                    client_id="labkeeper",
                    request_timeout_ms=int(_CONNECT_S * 1000),
                    **self._security(),
                )
                try:
                    await connection.send(
                        _SOME_QUESTION
                    )  # who wants a password lets strangers in, until they ask
                finally:
                    connection.close()
        except errors.IllegalSaslStateError:
            return Misconfigured(
                f"kafka: {server} asks nobody for a password: set security.protocol to PLAINTEXT or SSL, or name the port "
                "that has SASL, then start again"
            )
        except _REFUSED as error:
            return TurnedAway(
                f"kafka: {server} turns {self._settings.username!r} away ({_text(error)}): check user name, password and"
                " mechanism, then start again"
            )
        except (OSError, errors.KafkaError) as error:
            return _trouble(server, error)
        return None

    def _security(self) -> dict[str, Any]:
        settings = self._settings
        transport = "SSL" if settings.tls else "PLAINTEXT"
        if settings.mechanism is None:
            return {"security_protocol": transport, "ssl_context": self._tls}
        return {
            "security_protocol": f"SASL_{transport}",
            "ssl_context": self._tls,
            "sasl_mechanism": settings.mechanism.value,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.password,
        }


def _tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"kafka: {settings.ca_file} holds no certificates in PEM: {_text(error)}"
        ) from error
    if settings.certificate_file is not None:
        try:
            context.load_cert_chain(
                settings.certificate_file, settings.key_file, password=lambda: settings.key_password or ""
            )
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"kafka: cannot use the certificate {settings.certificate_file} with its key"
                f" {settings.key_file or 'in the same file'}: {_text(error)}"
            ) from error
    return context


def _trouble(server: str, error: Exception) -> LabkeeperError:
    """Why there is no connection to a server that has not turned us away."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = (
            f"the certificate of {server} is not trusted ({error.verify_message}): name its authority's file"
        )
        return Misconfigured(f"kafka: {text}")
    if isinstance(error, ssl.SSLError):
        return Misconfigured(
            f"kafka: no TLS with {server} ({error.reason}): check protocol, port and certificates"
        )
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{server} does not answer")
    if isinstance(error, ConnectionResetError | errors.KafkaConnectionError):
        return BrokerUnavailable(
            f"{server} hangs up: it is starting or stopping, or wants another security.protocol"
        )
    return BrokerUnavailable(f"{server}: {_text(error)}")


def _text(error: BaseException) -> str:
    text = " ".join(_OBJECT.sub("", str(error)).split())
    return text or type(error).__name__


class _LibraryLog(logging.Handler):
    """aiokafka tells of every failed try of a reconnection. A text is told once in a while, as a line of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        if record.msg in _TOLD_BY_US:
            return
        if record.msg in _ROUTINE:
            logs.get_logger().debug("kafka_client", text=record.getMessage())
            return
        now = time.monotonic()
        kind = _AWAY[0] if record.msg in _AWAY else record.msg
        if now - self._told.get(kind, -math.inf) < _QUIET_S:
            return
        self._told[kind] = now
        problem = record.exc_info[1] if record.exc_info else None
        details: Mapping[str, str] = {} if problem is None else {"error": repr(problem)}
        logs.get_logger().warning("kafka_client", text=record.getMessage(), **details)


def route_library_log() -> None:
    """Let aiokafka's warnings through our log, without their floods. Harmless when repeated."""
    library = logging.getLogger("aiokafka")
    if not any(isinstance(handler, _LibraryLog) for handler in library.handlers):
        library.addHandler(_LibraryLog())
        library.propagate = False


def has_given_up(consumer: AIOKafkaConsumer) -> bool:
    """Whether one of the consumer's background tasks has ended for a mistake of its own: it never reads again then."""
    tasks = (consumer._fetcher._fetch_task, getattr(consumer._coordinator, "_coordination_task", None))  # noqa: SLF001
    return any(task is not None and task.done() for task in tasks)
