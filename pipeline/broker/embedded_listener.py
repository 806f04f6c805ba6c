"""Hears what other processes publish, within a millisecond or so, through PostgreSQL's NOTIFY.

A notification is a hint and no more: readers look for themselves every now and then, for one may be lost with its
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import psycopg2

from pipeline import logs
from pipeline.broker.embedded_groups import REARRANGED
from pipeline.broker.embedded_log import PUBLISHED
from pipeline.broker.embedded_session import Connection, connect
from pipeline.errors import BrokerUnavailable
from pipeline.retry import Backoff


class Hearer(Protocol):
    """Who wants to know."""

    def published(self, news: Mapping[int, int] | None) -> None:
        """So many messages were published, by partition id; None: nobody knows what."""
        ...

    def rearranged(self, group: str | None) -> None:
        """The members of a group (`<topic> <group>`) have changed; None: perhaps those of any."""
        ...


class Listener:
    """One LISTENing connection for all subscriptions of a process."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._hearers: set[Hearer] = set()
        self._work: asyncio.Task[None] | None = None

    def add(self, hearer: Hearer) -> None:
        """Tell `hearer` from now on."""
        self._hearers.add(hearer)
        if self._work is None:
            self._work = asyncio.create_task(self._listen())

    def remove(self, hearer: Hearer) -> None:
        """Tell `hearer` no more."""
        self._hearers.discard(hearer)

    async def close(self) -> None:
        """Stop listening."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _listen(self) -> None:
        backoff = Backoff()
        while True:
            try:
                connection = await asyncio.to_thread(_listening, self._dsn)
            except BrokerUnavailable as error:
                logs.get_logger().warning("broker_listener_unavailable", reason=str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            try:
                self._tell_published(None)
                self._tell_rearranged(None)
                await self._hear(connection)
            finally:
                connection.close()

    async def _hear(self, connection: Connection) -> None:
        """Pass notifications on until the connection is lost."""
        loop = asyncio.get_running_loop()
        lost = asyncio.Event()

        def readable() -> None:
            try:
                connection.poll()
            except (psycopg2.DatabaseError, psycopg2.InterfaceError):
                loop.remove_reader(descriptor)
                lost.set()
            self._pass_on(connection)

        descriptor = connection.fileno()
        loop.add_reader(descriptor, readable)
        try:
            await lost.wait()
        finally:
            loop.remove_reader(descriptor)

    def _pass_on(self, connection: Connection) -> None:
        notifications, connection.notifies[:] = list(connection.notifies), []
        for notification in notifications:
            if notification.channel == REARRANGED:
                self._tell_rearranged(notification.payload)
            else:
                self._tell_published(_news(notification.payload))

    def _tell_published(self, news: Mapping[int, int] | None) -> None:
        for hearer in tuple(self._hearers):
            hearer.published(news)

    def _tell_rearranged(self, group: str | None) -> None:
        for hearer in tuple(self._hearers):
            hearer.rearranged(group)


_CHANNELS: Final = (PUBLISHED, REARRANGED)


def _listening(dsn: str) -> Connection:
    connection = connect(dsn)
    with connection.cursor() as cursor:
        for channel in _CHANNELS:
            cursor.execute(f"LISTEN {channel}")
    return connection


def _news(payload: str) -> Mapping[int, int] | None:
    if not payload:
        return None
    pairs = (pair.split(":") for pair in payload.split(","))
    return {int(partition_id): int(count) for partition_id, count in pairs}
