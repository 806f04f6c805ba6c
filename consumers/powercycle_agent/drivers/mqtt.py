"""Anything that switches on an MQTT message: Zigbee2MQTT, Tasmota and Shelly over MQTT, home-made relays.

For brokers with MQTT 3.1.1 (Mosquitto, EMQX, HiveMQ and others). `{port}` in topics and payloads stands for the port. Needs the
extra `mqtt`. A port is on or off when its device says so on the state topic after our command; what the broker has kept from
before does not count. With a `query`, the device is asked, and a state is never an old one; without, `status` is the last word
that the broker kept. Without `state` nothing is confirmed, and every port's state is unknown.

    mqtt: {
      "zigbee": {
        address: "mqtts://broker.lab:8883", user: "labkeeper", password_file: "/etc/labkeeper/mqtt",
        command: { topic: "zigbee2mqtt/{port}/set", on: '{"state": "ON"}', off: '{"state": "OFF"}' },
        state: { topic: "zigbee2mqtt/{port}", pointer: "/state" },
        query: { topic: "zigbee2mqtt/{port}/get", payload: '{"state": ""}' },
        ports: { "pi-06": "plug-6" },
      },
      "tasmota": {
        address: "mqtt://10.1.2.2",
        command: { topic: "cmnd/{port}/POWER", on: "ON", off: "OFF" },
        state: { topic: "stat/{port}/POWER" },
        query: { topic: "cmnd/{port}/POWER", payload: "" },
        ports: { "pi-07": "plug-7" },
      },
    }

Manuals: https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html and https://tasmota.github.io/docs/MQTT/
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from yarl import URL

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotInstalled,
    NotReached,
    TurnedAway,
    Unreachable,
)
from consumers.powercycle_agent.drivers.http import AccountSettings, tls_context
from consumers.powercycle_agent.drivers.limits import connecting_within, within
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.wording import Wording

if TYPE_CHECKING:
    from aiomqtt import Client

T = TypeVar("T")

_MAX_PAYLOAD: Final = 1 << 16
"""Bytes of a message that are looked at; longer ones say nothing to us."""
_KEPT_S: Final = 1.0
"""How long the broker may take to tell what it has kept; it does so at once."""
_LEAVE_S: Final = 0.5
"""How long the broker may take over a good-bye."""
_SILENT: Final = logging.Logger("aiomqtt", level=logging.CRITICAL + 1)  # noqa: LOG001  # outside the tree
"""What aiomqtt has to say is in the errors, too."""
_REFUSALS: Final = frozenset({134, 135})
"""Reason codes: bad user name or password; not authorized."""


def _broker_address(value: str) -> str:
    try:
        url = URL(value)
        if (
            url.scheme in {"mqtt", "mqtts"}
            and url.host
            and url.path in {"", "/"}
            and not url.user
            and not url.password
            and not url.query
        ):
            return value.rstrip("/")
    except ValueError:
        pass
    raise ValueError(
        "must be an address like mqtt://10.0.0.5 or mqtts://broker.lab:8883, without user and password"
    )


def _topic(value: str) -> str:
    if any(character in value for character in "+#\0"):
        raise ValueError("is no topic: it must not have + or # in it")
    return value


BrokerAddress = Annotated[str, Field(max_length=1000), AfterValidator(_broker_address)]
Topic = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_topic)]
Payload = Annotated[str, Field(max_length=10_000)]


class Command(BaseModel):
    """What to publish."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: Topic
    on: Payload = "ON"
    off: Payload = "OFF"


class StateTopic(Wording):
    """Where a device tells the state of a port."""

    topic: Topic


class Query(BaseModel):
    """What to publish to hear the state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: Topic
    payload: Payload = ""


class MqttSettings(AccountSettings):
    """One broker, and devices that take the same kind of messages."""

    address: BrokerAddress
    """`mqtt://host` (port 1883) or `mqtts://host` (TLS, port 8883)."""
    command: Command
    state: StateTopic | None = None
    query: Query | None = None

    @field_validator("ports")
    @classmethod
    def _fit_topics(cls, ports: dict[str, str]) -> dict[str, str]:
        for port in ports.values():
            _topic(port)
        return ports


class MqttDriver:
    """One broker. Connects for each call: no old connection can fail one."""

    def __init__(self, settings: MqttSettings, secrets: Secrets) -> None:
        self._settings = settings
        self._secrets = secrets
        self._device = settings.address
        self._leaving: set[asyncio.Task[None]] = set()

    async def on(self, port: str) -> None:
        await self._turn(port, PortState.ON)

    async def off(self, port: str) -> None:
        await self._turn(port, PortState.OFF)

    async def status(self, port: str) -> PortState:
        if self._settings.state is None:
            return PortState.UNKNOWN
        async with within(self._settings.limit_s, self._device), self._connected() as client:
            await self._subscribe(client, port)
            await self._query(client, port)
            asked = self._settings.query is not None
            limit_s = self._settings.confirm_s if asked else _KEPT_S
            heard = await self._hear(client, {PortState.ON, PortState.OFF}, limit_s, kept=not asked)
        if heard is None and asked:
            raise Unreachable(self._silence(port))
        return heard or PortState.UNKNOWN

    async def probe(self) -> None:
        async with within(self._settings.limit_s, self._device), self._connected():
            pass

    async def close(self) -> None:
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _turn(self, port: str, wanted: PortState) -> None:
        told = asyncio.Event()
        try:
            await self._tell(port, wanted, told)
        except TurnedAway as error:
            if told.is_set():  # else it would say that nothing was switched
                raise NotConfirmed(f"the command was published, and then: {error}") from error
            raise

    async def _tell(self, port: str, wanted: PortState, told: asyncio.Event) -> None:
        command = self._settings.command
        payload = command.on if wanted is PortState.ON else command.off
        async with within(self._settings.limit_s, self._device), self._connected() as client:
            await self._subscribe(client, port)
            told.set()
            await _finished(client.publish(_filled(command.topic, port), _filled(payload, port), qos=1))
            if self._settings.state is None:
                return
            await self._query(client, port)
            heard = await self._hear(client, {wanted}, self._settings.confirm_s, kept=False)
        if heard is None:
            raise Unreachable(self._silence(port))
        if heard is not wanted:
            raise NotConfirmed(f"port {port} of {self._device} says that it is {heard}, not {wanted}")

    async def _subscribe(self, client: Client, port: str) -> None:
        if self._settings.state is None:
            return
        topic = _filled(self._settings.state.topic, port)
        for code in await _finished(client.subscribe(topic, qos=1)):
            if not isinstance(code, int) and code.is_failure:
                raise TurnedAway(f"{self._device} does not let us read the topic {topic}")

    async def _query(self, client: Client, port: str) -> None:
        query = self._settings.query
        if query is not None:
            await _finished(client.publish(_filled(query.topic, port), _filled(query.payload, port), qos=1))

    async def _hear(
        self, client: Client, wanted: set[PortState], limit_s: float, *, kept: bool
    ) -> PortState | None:
        """The last state that was told until it was a wanted one, or time was up; None: nothing was. `kept`: what the broker
        has kept from before counts, too.
        """
        assert self._settings.state is not None
        heard = None
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                async for message in client.messages:
                    if len(message.payload) <= _MAX_PAYLOAD and (kept or not message.retain):
                        heard = self._settings.state.read(message.payload.decode("utf-8", "replace"))
                        if heard in wanted:
                            break
        return heard

    def _silence(self, port: str) -> str:
        assert self._settings.state is not None
        topic = _filled(self._settings.state.topic, port)
        return (
            f"nothing was heard on topic {topic} of {self._device} within {self._settings.confirm_s:g} s: "
            "is the device on, and is the topic right?"
        )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        from aiomqtt import Client, MqttError  # noqa: PLC0415  # an extra

        url = URL(self._settings.address)
        login = self._settings.login(self._secrets)
        is_safe = url.scheme == "mqtts"
        client = Client(
            str(url.host),
            url.explicit_port or (8883 if is_safe else 1883),
            username=login.user if login else None,
            password=login.password if login else None,
            logger=_SILENT,
            timeout=self._settings.limit_s,
            tls_context=tls_context(self._settings) if is_safe else None,
            max_queued_incoming_messages=1000,
        )
        is_connected = False
        connecting = asyncio.create_task(client.__aenter__())
        try:
            async with connecting_within(self._settings.limit_s, self._device):
                await asyncio.shield(connecting)
            is_connected = True
            yield client
        except MqttError as error:
            raise self._translated(error, is_connected=is_connected) from error
        finally:
            # In a task of its own: also a call that is cancelled while it connects must not leave a connection behind.
            leaving = asyncio.create_task(_leave(client, connecting))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _translated(self, error: Exception, *, is_connected: bool) -> DriverError:
        code = getattr(getattr(error, "rc", None), "value", None)
        if code in _REFUSALS:
            return TurnedAway(f"{self._device} does not let us in ({error}): check user and password")
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return TurnedAway(
                f"{self._device} shows a certificate that is not trusted: name it, or its authority, with ca_file ({error})"
            )
        if not is_connected:
            return NotReached(f"cannot connect to {self._device}: {plainly(error.__cause__ or error)}")
        return Unreachable(f"cannot talk to {self._device}: {error}")


async def _finished(call: Coroutine[Any, Any, T]) -> T:
    """What the call gives. A task of its own, as aiomqtt waits in a way that can lose a cancellation on Python 3.11."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task})
        return task.result()
    finally:
        task.cancel()


async def _leave(client: Client, connecting: asyncio.Task[Client]) -> None:
    from aiomqtt import MqttError  # noqa: PLC0415  # an extra

    await asyncio.wait({connecting}, timeout=_LEAVE_S)
    connecting.cancel()
    await asyncio.wait({connecting})
    client.timeout = _LEAVE_S
    with suppress(MqttError):
        await client.__aexit__(None, None, None)


def _filled(text: str, port: str) -> str:
    return text.replace("{port}", port)


def _open(settings: MqttSettings, secrets: Secrets) -> MqttDriver:
    if importlib.util.find_spec("aiomqtt") is None:
        raise NotInstalled("MQTT needs a package that is not here: pip install 'labkeeper[mqtt]'")
    return MqttDriver(settings, secrets)


KIND = DriverKind("mqtt", MqttSettings, _open)
