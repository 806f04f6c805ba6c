"""A notifier between a store and a broker in memory, and channels that keep what they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.notifier.channels import Channel, NotSent
from consumers.notifier.configuration import Configuration
from consumers.notifier.messages import Message
from consumers.notifier.service import Notifier, Tools
from consumers.notifier.settings import NotifierSettings
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing
from pipeline.clock import ManualClock
from pipeline.store.memory import MemoryStore
from pipeline.store.messages import change_message
from pipeline.store.protocol import Updated
from schemas.changes import ChangeKind, MachineChange
from schemas.description import Description

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEADLINE_S = 60.0
ROUND = timedelta(milliseconds=5)


def machine(machine_id: str, pool: str = "Lab", **fields: Any) -> Description:
    dimensions = {"id": [machine_id], "pool": [pool]}
    return Description.new(machine_id, now=NOON).evolve(
        {"dimensions": dimensions, "row_version": 1, **fields}
    )


def change(kind: ChangeKind, description: Description) -> MachineChange:
    return MachineChange(
        id=description.dimension("id")[0],
        version=description.row_version,
        kinds=[kind],
        who="labkeeper",
        description=description,
    )


def published(kind: ChangeKind, description: Description) -> Outgoing:
    return change_message(Updated(description.dimension("id")[0], description, [kind]), "labkeeper")


def down(machine_id: str, pool: str = "Lab") -> Outgoing:
    return published(ChangeKind.DOWN, machine(machine_id, pool, down_since=NOON))


def back(machine_id: str, pool: str = "Lab") -> Outgoing:
    return published(ChangeKind.DOWN, machine(machine_id, pool))


class KeepingChannel:
    """Keeps messages, or fails so often."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.failures = 0
        self.rest_s = 0.0
        self.tries = 0

    async def send(self, message: Message) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise NotSent("nobody is there", rest_s=self.rest_s)
        self.messages.append(message)


@dataclass
class FixedPlaces:
    configuration: Configuration
    keeping: dict[str, KeepingChannel]

    @property
    def channels(self) -> dict[str, Channel]:
        return dict(self.keeping)

    async def look(self) -> None:
        """There is no file."""


def configured(**fields: object) -> Configuration:
    return Configuration.model_validate(
        {
            "channels": {"chat": {"slack": {"url_env": "URL"}}, "mail": {"slack": {"url_env": "URL"}}},
            "routes": [{"channels": ["chat"]}],
            **fields,
        }
    )


@dataclass
class Lab:
    """What surrounds a notifier; the notifier itself may come and go."""

    configuration: Configuration = field(default_factory=configured)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON))
    settings: NotifierSettings = field(default_factory=lambda: NotifierSettings(look_every=ROUND))

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        self.broker = MemoryBroker()
        self.places = FixedPlaces(
            self.configuration, {name: KeepingChannel() for name in self.configuration.channels}
        )

    @property
    def chat(self) -> KeepingChannel:
        return self.places.keeping["chat"]

    def notifier(self) -> Notifier:
        return Notifier(self.broker, Tools(self.store, self.clock, self.places, self.settings))

    @asynccontextmanager
    async def running(self, limit_s: float = DEADLINE_S) -> AsyncIterator[None]:
        """With a notifier that is stopped well at the end."""
        stop = asyncio.Event()
        task = asyncio.create_task(self.notifier().run(stop))
        try:
            async with asyncio.timeout(limit_s):
                await self.joined()
                yield
                stop.set()
                await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def joined(self) -> None:
        """Until a notifier has taken over and reads."""
        await until(lambda: bool(self.broker._subscriptions))

    async def read(self) -> None:
        """Until everything published has been taken."""
        while any(lag.unread for lag in await self.broker.lag("machine.changes", group="notifier")):
            await asyncio.sleep(0.002)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)
