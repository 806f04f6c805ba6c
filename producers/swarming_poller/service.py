"""Polls Swarming servers round by round, and publishes an event for each bot.

A pool that fails is skipped and told; its machines stay as they are. What a round has learnt is published page by page. A bot
that the rounds before knew, and that no pool has any more, was deleted: it is down no longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import aiohttp

from pipeline import logs, metrics
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.clock import Clock
from pipeline.errors import LabkeeperError
from pipeline.service import Abandoned, persist, wait_for
from producers.swarming_poller.bots import Bot, deleted_bot
from producers.swarming_poller.client import SwarmingClient
from producers.swarming_poller.settings import PollerSettings, PoolOfBots
from producers.swarming_poller.token import read_token
from schemas.envelope import EVENT_TYPE, metadata
from schemas.event import SWARMING_BOT, Event, Host
from schemas.ids import is_machine_id
from schemas.topics import MACHINE_EVENTS
from schemas.wire import to_milliseconds

SOURCE: Final = "/swarming-poller"
_AT_ONCE: Final = 500

log = logs.get_logger()


class Poller:
    """Polls all pools, one server beside the other."""

    def __init__(
        self, session: aiohttp.ClientSession, broker: Broker, clock: Clock, settings: PollerSettings
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._settings = settings
        self._clients = {
            server: SwarmingClient(session, server, settings)
            for server in dict.fromkeys(pool.server for pool in settings.pools)
        }
        self._started = to_milliseconds(clock.now())
        self._round = 0
        self._known: dict[str, PoolOfBots] = {}
        """Where each bot was seen last; of those that were not deleted."""
        self._strange: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self.poll(stop)
            except Abandoned:
                return
            left = self._settings.period.total_seconds() - (time.monotonic() - began)
            await wait_for(stop, max(0.0, left))

    async def poll(self, stop: asyncio.Event) -> None:
        """One round."""
        self._round += 1
        try:
            token = await read_token(self._settings.token)
        except LabkeeperError as error:
            for pool in self._settings.pools:
                self._failed(pool, error)
            return
        seen: dict[PoolOfBots, set[str]] = {}
        async with asyncio.TaskGroup() as tasks:
            for server in self._clients:
                pools = [pool for pool in self._settings.pools if pool.server == server]
                tasks.create_task(self._poll_server(pools, token, stop, seen))
        await self._tell_deleted(seen, stop)

    async def _poll_server(
        self,
        pools: Sequence[PoolOfBots],
        token: str | None,
        stop: asyncio.Event,
        seen: dict[PoolOfBots, set[str]],
    ) -> None:
        """`seen` gets the bots of each pool that was read to its end."""
        for pool in pools:
            if stop.is_set():
                return
            try:
                seen[pool] = await self._poll_pool(pool, token, stop)
            except LabkeeperError as error:
                self._failed(pool, error)

    async def _tell_deleted(self, seen: Mapping[PoolOfBots, set[str]], stop: asyncio.Event) -> None:
        """Tell of bots that are gone, if all pools were read: one may have moved to another pool."""
        self._known |= {bot_id: pool for pool, ids in seen.items() for bot_id in ids}
        if len(seen) < len(self._settings.pools):
            return
        there = set().union(*seen.values())
        gone = {bot_id: pool for bot_id, pool in self._known.items() if bot_id not in there}
        if gone:
            await self._publish(
                [self._message(pool, deleted_bot(bot_id)) for bot_id, pool in gone.items()], stop
            )
            log.info("bots_deleted", count=len(gone), bots=sorted(gone)[:10])
        for bot_id in gone:
            del self._known[bot_id]

    def _failed(self, pool: PoolOfBots, error: LabkeeperError) -> None:
        metrics.SWARMING_POLLS.labels(pool.server, pool.pool, "failed").inc()
        log.warning("pool_not_polled", server=pool.server, pool=pool.pool, reason=str(error))

    async def _poll_pool(self, pool: PoolOfBots, token: str | None, stop: asyncio.Event) -> set[str]:
        """Returns the ids of its bots."""
        waiting: list[Outgoing] = []
        seen: set[str] = set()
        counts = {"alive": 0, "dead": 0, "quarantined": 0}
        async for bot in self._clients[pool.server].bots(pool, token):
            if not is_machine_id(bot.id):
                self._tell_strange(pool, bot)
                continue
            counts["dead" if bot.is_dead else "quarantined" if bot.quarantined else "alive"] += 1
            seen.add(bot.id)
            waiting.append(self._message(pool, bot))
            if len(waiting) == _AT_ONCE:
                await self._publish(waiting, stop)
                waiting = []
        if waiting:
            await self._publish(waiting, stop)
        for state, count in counts.items():
            metrics.SWARMING_BOTS.labels(pool.server, pool.pool, state).set(count)
        metrics.SWARMING_POLLS.labels(pool.server, pool.pool, "done").inc()
        metrics.SWARMING_POLLED_AT.labels(pool.server, pool.pool).set(self._clock.now().timestamp())
        log.debug("pool_polled", server=pool.server, pool=pool.pool, **counts)
        return seen

    async def _publish(self, messages: list[Outgoing], stop: asyncio.Event) -> None:
        await persist(partial(self._broker.publish, messages), "broker_unavailable", stop)

    def _message(self, pool: PoolOfBots, bot: Bot) -> Outgoing:
        event = Event(
            type=SWARMING_BOT,
            host=Host(name=bot.id, start_time=self._started),
            sequence=self._round,
            swarming=bot.report(pool.server),
        )
        value = event.model_dump_json(exclude_defaults=True).encode()
        return Outgoing(MACHINE_EVENTS, bot.id, value, metadata(EVENT_TYPE, SOURCE))

    def _tell_strange(self, pool: PoolOfBots, bot: Bot) -> None:
        """Once for each, and not for ever more of them."""
        if bot.id in self._strange or len(self._strange) >= 1000:
            return
        self._strange.add(bot.id)
        log.warning(
            "bot_left_out", bot=bot.id[:200], pool=pool.pool, reason="it has no id that a machine can have"
        )
