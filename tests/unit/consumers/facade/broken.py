"""Store and broker that cannot be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing
from pipeline.errors import BrokerUnavailable, StoreUnavailable
from pipeline.store.memory import MemoryStore


class AwayStore(MemoryStore):
    """Nobody home."""

    async def get(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise StoreUnavailable("no route to host")

    async def update(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise StoreUnavailable("no route to host")

    async def list(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise StoreUnavailable("no route to host")

    async def list_powercycle(self) -> NoReturn:
        raise StoreUnavailable("no route to host")

    async def delete(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise StoreUnavailable("no route to host")

    async def check(self) -> None:
        raise StoreUnavailable("no route to host")


class AwayBroker(MemoryBroker):
    """Takes nothing."""

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        raise BrokerUnavailable(f"{len(messages)} messages not taken")

    async def check(self) -> None:
        raise BrokerUnavailable("no route to host")
