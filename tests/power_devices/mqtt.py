"""Plugs behind an MQTT broker: a real Mosquitto, and a client that behaves as Zigbee2MQTT does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from aiomqtt import Client

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood, PowerDevice
from tests.power_devices.gate import Gate
from tests.power_devices.mosquitto import Mosquitto

USER = "labkeeper"
PASSWORD = 'mq tt"pä'
_READY_S = 60


class FakePlugs(PowerDevice):
    """Listens on `lab/<plug>/set` and `/get`, and tells `lab/<plug>`, kept by the broker."""

    def __init__(self, folder: Path) -> None:
        accounts = {USER: PASSWORD, "plugs": "p"}
        self._broker = Mosquitto(folder, (accounts, accounts | {USER: "changed meanwhile"}))
        self._gate = Gate(lambda: self._mood is Mood.HANGS)
        self._client: asyncio.Task[None] | None = None
        super().__init__(("plug-1", "plug-2"))

    @property
    def mood(self) -> Mood:
        """Whom the broker knows is a matter of its listener."""
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        self._mood = mood
        self._gate._inner_port = self._inner_port

    @property
    def address(self) -> str:
        """Of the broker."""
        return f"mqtt://127.0.0.1:{self._gate.port}"

    @property
    def _inner_port(self) -> int:
        return self._broker.ports[1 if self._mood is Mood.REFUSES else 0]

    async def start(self) -> None:
        await self._broker.start()
        ready = asyncio.Event()
        self._client = asyncio.create_task(self._serve(ready))
        async with asyncio.timeout(_READY_S):
            await ready.wait()
        await self._gate.open(self._inner_port)

    async def stop(self) -> None:
        await self._gate.shut()
        await self.leave()
        await self._broker.stop()

    async def leave(self) -> None:
        """Be gone while the broker stays."""
        while self._client is not None and not self._client.done():
            self._client.cancel()  # aiomqtt can lose one
            await asyncio.wait({self._client}, timeout=0.1)

    async def break_off(self) -> None:
        await self._gate.cut()

    async def _serve(self, ready: asyncio.Event) -> None:
        async with Client("127.0.0.1", self._broker.ports[0], username="plugs", password="p") as client:
            await client.subscribe([("lab/+/set", 1), ("lab/+/get", 1)])
            ready.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                _, plug, verb = message.topic.value.split("/")
                self.note(f"{message.topic} {message.payload.decode()}")
                if plug not in self.states:
                    continue
                if verb == "set":
                    self.switch(plug, PortState(json.loads(message.payload)["state"].lower()))
                said = json.dumps({"linkquality": 87, "state": self.states[plug].upper()})
                babble = b"\xff\x00{"
                await client.publish(
                    f"lab/{plug}", babble if self._mood is Mood.BABBLES else said, qos=1, retain=True
                )
