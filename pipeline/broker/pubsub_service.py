"""The connection to Pub/Sub: its calls over gRPC, and its errors as ours.

The generated classes that wrap every message are left out on this path: they cost more than all the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import google.auth
import google.auth.exceptions
import grpc
import grpc.aio
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1.types import pubsub as types

from pipeline.errors import BrokerUnavailable, LabkeeperError, Misconfigured, Rejected
from pipeline.settings import PubsubSettings

CallFailed: Final = grpc.aio.AioRpcError
END: Final = grpc.aio.EOF
"""What a stream reads when the server has ended it."""
_ADDRESS: Final = "pubsub.googleapis.com:443"
_SCOPE: Final = "https://www.googleapis.com/auth/pubsub"
_TIMEOUT_S: Final = 30.0
_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class NotThere(BrokerUnavailable):
    """A topic or subscription does not exist yet; whoever needs it tries again until somebody has made it."""


class AlreadyThere(LabkeeperError):
    """What should be created exists."""


class Unsupported(BrokerUnavailable):
    """This server does not do that; emulators leave things out."""


@dataclass(frozen=True, slots=True)
class Method:
    """A call of the service."""

    path: str
    request: Any
    """Class of the request."""
    response: Any
    resource: str
    """The field that names what the call is about."""
    role: str
    """The smallest of Google's roles that allows it."""


def _publisher(name: str, request: Any, response: Any, resource: str, role: str) -> Method:
    return Method(f"/google.pubsub.v1.Publisher/{name}", request, response, resource, role)


def _subscriber(name: str, request: Any, response: Any, resource: str, role: str) -> Method:
    return Method(f"/google.pubsub.v1.Subscriber/{name}", request, response, resource, role)


Topic: Final = types.Topic.pb()
PushedSubscription: Final = types.Subscription.pb()
StreamingPullRequest: Final = types.StreamingPullRequest.pb()

_EDITOR: Final = "roles/pubsub.editor"
_VIEWER: Final = "roles/pubsub.viewer"
_READER: Final = "roles/pubsub.subscriber"

PUBLISH: Final = _publisher(
    "Publish", types.PublishRequest.pb(), types.PublishResponse.pb(), "topic", "roles/pubsub.publisher"
)
CREATE_TOPIC: Final = _publisher("CreateTopic", Topic, Topic, "name", _EDITOR)
GET_TOPIC: Final = _publisher("GetTopic", types.GetTopicRequest.pb(), Topic, "topic", _VIEWER)
UPDATE_TOPIC: Final = _publisher("UpdateTopic", types.UpdateTopicRequest.pb(), Topic, "topic.name", _EDITOR)
CREATE_SUBSCRIPTION: Final = _subscriber(
    "CreateSubscription", PushedSubscription, PushedSubscription, "name", _EDITOR
)
GET_SUBSCRIPTION: Final = _subscriber(
    "GetSubscription", types.GetSubscriptionRequest.pb(), PushedSubscription, "subscription", _VIEWER
)
UPDATE_SUBSCRIPTION: Final = _subscriber(
    "UpdateSubscription",
    types.UpdateSubscriptionRequest.pb(),
    PushedSubscription,
    "subscription.name",
    _EDITOR,
)
DELETE_SUBSCRIPTION: Final = _subscriber(
    "DeleteSubscription", types.DeleteSubscriptionRequest.pb(), Empty, "subscription", _EDITOR
)
CREATE_SNAPSHOT: Final = _subscriber(
    "CreateSnapshot", types.CreateSnapshotRequest.pb(), types.Snapshot.pb(), "name", _EDITOR
)
DELETE_SNAPSHOT: Final = _subscriber(
    "DeleteSnapshot", types.DeleteSnapshotRequest.pb(), Empty, "snapshot", _EDITOR
)
SEEK: Final = _subscriber("Seek", types.SeekRequest.pb(), types.SeekResponse.pb(), "subscription", _READER)
ACKNOWLEDGE: Final = _subscriber("Acknowledge", types.AcknowledgeRequest.pb(), Empty, "subscription", _READER)
MODIFY_ACK_DEADLINE: Final = _subscriber(
    "ModifyAckDeadline", types.ModifyAckDeadlineRequest.pb(), Empty, "subscription", _READER
)
STREAMING_PULL: Final = _subscriber(
    "StreamingPull", StreamingPullRequest, types.StreamingPullResponse.pb(), "subscription", _READER
)


class Service:
    """Calls Pub/Sub. Connects when first used."""

    def __init__(self, settings: PubsubSettings) -> None:
        self._settings = settings
        self._channel: Any = None
        self._opening = asyncio.Lock()
        self._calls: dict[Method, Callable[..., Any]] = {}
        self._is_closed = False

    async def call(self, method: Method, **fields: Any) -> Any:
        """Ask and return the answer. Raises our errors."""
        channel = await self._open()
        if method not in self._calls:
            self._calls[method] = channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        request = method.request(**fields)
        about = _resource(request, method.resource)
        try:
            return await self._calls[method](request, timeout=_TIMEOUT_S, metadata=_routing(method, about))
        except grpc.aio.AioRpcError as error:
            raise _translated(error, method, about) from error

    @asynccontextmanager
    async def stream(self, subscription: str, **fields: Any) -> AsyncIterator[Any]:
        """A stream of messages. Its faults inside the context become our errors as well."""
        channel = await self._open()
        method = STREAMING_PULL
        pull = channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        stream = pull(metadata=_routing(method, subscription))
        try:
            await stream.write(StreamingPullRequest(subscription=subscription, **fields))
            yield stream
        except grpc.aio.AioRpcError as error:
            raise _translated(error, method, subscription) from error
        except asyncio.InvalidStateError as error:
            raise BrokerUnavailable("Pub/Sub: the stream of messages has broken off") from error
        finally:
            stream.cancel()

    @property
    def is_emulator(self) -> bool:
        """Whether this is not Google's."""
        return bool(self._settings.emulator)

    async def close(self) -> None:
        """Let go of the connection. Harmless when repeated."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _open(self) -> Any:
        if self._channel is not None:
            return self._channel
        async with self._opening:
            if self._is_closed:
                raise BrokerUnavailable("Pub/Sub: closed")
            if self._channel is None:
                self._channel = await self._connect()
        return self._channel

    async def _connect(self) -> Any:
        if self._settings.emulator:
            return grpc.aio.insecure_channel(self._settings.emulator, options=_OPTIONS)
        credentials = await asyncio.to_thread(_credentials)
        return grpc.aio.secure_channel(_ADDRESS, credentials, options=_OPTIONS)


def _credentials() -> Any:
    try:
        found, _ = google.auth.default(scopes=[_SCOPE])
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise Misconfigured(
            "Pub/Sub needs credentials, and there are none: run `gcloud auth application-default login`, or name a"
            " key file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    plugin = grpc.metadata_call_credentials(AuthMetadataPlugin(found, Request()))  # type: ignore[no-untyped-call]
    return grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), plugin)


def _resource(request: Any, path: str) -> str:
    for name in path.split("."):
        request = getattr(request, name)
    return str(request)


def _routing(method: Method, about: str) -> tuple[tuple[str, str]]:
    return (("x-goog-request-params", f"{method.resource}={quote(about, safe='')}"),)


_Code: Final = grpc.StatusCode
_LOGIN: Final = "run `gcloud auth application-default login`"


def _translated(error: grpc.aio.AioRpcError, method: Method, about: str) -> LabkeeperError:
    text = " ".join(str(error.details() or error.code().name).split())
    call = f"{method.path.rpartition('/')[2]} on {_short(about)}"
    match error.code():
        case _Code.NOT_FOUND:
            found: LabkeeperError = NotThere(
                f"Pub/Sub has no {_short(about)} ({text}): run `labkeeper topics create`"
            )
        case _Code.ALREADY_EXISTS:
            found = AlreadyThere(f"Pub/Sub has {_short(about)} already")
        case _Code.PERMISSION_DENIED:
            found = Misconfigured(f"Pub/Sub refuses {call} ({text}): grant {method.role}")
        case _Code.UNAUTHENTICATED:
            found = Misconfigured(f"Pub/Sub does not accept the credentials ({text}): {_LOGIN}")
        case _Code.UNIMPLEMENTED:
            found = Unsupported(f"this Pub/Sub server does not know {method.path.rpartition('/')[2]}: {text}")
        case _Code.INVALID_ARGUMENT | _Code.FAILED_PRECONDITION | _Code.OUT_OF_RANGE:
            found = Rejected(f"Pub/Sub refuses {call}: {text}")
        case _:
            found = BrokerUnavailable(f"Pub/Sub: {text}")
    return found


def _short(about: str) -> str:
    """`topic labkeeper.machine.events in my-project`, from a full name."""
    parts = about.split("/")
    return f"{parts[2].removesuffix('s')} {parts[3]} in {parts[1]}" if len(parts) == 4 else about
