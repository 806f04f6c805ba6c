"""Gathers what machines' changes have to tell, and sends it.

What was gathered is saved before the changes are acknowledged, and what was sent is taken out afterwards: a crash loses
nothing, and may send a message twice, with the same id. One notifier works, others stand by.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from pydantic import ValidationError

from consumers.notifier.channels import Channel, NotSent
from consumers.notifier.configuration import Configuration
from consumers.notifier.grouping import Delivery, Desk
from consumers.notifier.messages import message_of
from consumers.notifier.notices import Notice, notices_of
from consumers.notifier.settings import GROUP, NAME, NotifierSettings
from pipeline import logs, metrics
from pipeline.broker.protocol import Batch, Broker, From, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.clock import Clock
from pipeline.errors import LeaseLost, Misconfigured
from pipeline.mandate import Mandate, MandateStore, Overtaken
from pipeline.service import Abandoned, persist, together, wait_for
from pipeline.store.power_protocol import PowerStore, Silences
from schemas.changes import MachineChange
from schemas.silence import Silence
from schemas.topics import MACHINE_CHANGES
from schemas.wire import explain

_FIRST_PAUSE_S: Final = 2.0

log = logs.get_logger()


class NotifierStore(MandateStore, PowerStore, Silences, Protocol):
    """What the notifier needs of the store."""


class Places(Protocol):
    """The channels, and what goes where, as the file has it now."""

    @property
    def configuration(self) -> Configuration:
        """What is valid now."""
        ...

    @property
    def channels(self) -> dict[str, Channel]:
        """By name."""
        ...

    async def look(self) -> None:
        """Read the file again if it has changed."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What a notifier works with, besides the broker."""

    store: NotifierStore
    clock: Clock
    places: Places
    settings: NotifierSettings


class Notifier:
    """Tells people, or stands by."""

    def __init__(self, broker: Broker, tools: Tools) -> None:
        self._broker = broker
        self._tools = tools

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        while not stop.is_set():
            mandate = Mandate(self._tools.store, NAME, lease_s=self._tools.settings.lease.total_seconds())
            if not await mandate.wait(stop):
                return
            try:
                await self._tell(mandate, stop)
            except Overtaken:
                log.warning("overtaken", note="another notifier works; standing by")
            except Abandoned as error:
                log.warning("stopped_in_trouble", reason=str(error), note="what was in hand is read again")
            finally:
                await mandate.release()

    async def _tell(self, mandate: Mandate, stop: asyncio.Event) -> None:
        saved = await persist(mandate.take_over, "store_unavailable", stop)
        desk = Desk.model_validate_json(zlib.decompress(saved)) if saved else Desk()
        log.info("telling", groups=len(desk.groups), deliveries=len(desk.deliveries))
        subscription = self._broker.subscribe(
            MACHINE_CHANGES, group=GROUP, start=From.LATEST, max_wait=timedelta(milliseconds=50)
        )
        async with subscription as reader:
            await _Session(self._tools, desk, mandate, reader, stop).run()


class _Session:
    """From taking over to stopping."""

    def __init__(
        self, tools: Tools, desk: Desk, mandate: Mandate, reader: Subscription, stop: asyncio.Event
    ) -> None:
        self._store, self._clock = tools.store, tools.clock
        self._places, self._settings = tools.places, tools.settings
        self._desk = desk
        self._mandate = mandate
        self._reader = reader
        self._stop = stop
        self._saving = asyncio.Lock()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Until asked to stop. Raises `Overtaken` and `Abandoned`."""
        await together(self._read(), self._send_again_and_again(), self._renew_again_and_again())

    async def _read(self) -> None:
        async for batch in until_stopped(self._reader, self._stop):
            if self._take(batch):
                await self._save()
            await persist(partial(self._acknowledge, batch), "broker_unavailable", self._stop)
        self._ended.set()

    def _take(self, batch: Batch) -> bool:
        """Gather what the batch has to tell. Whether there was anything that must be saved."""
        known = set(self._desk.in_error)
        found = [notice for message in batch.messages for notice in self._notices(message)]
        now = self._clock.now()
        for notice in found:
            channels = self._places.configuration.channels_for(notice)
            metrics.NOTICES.labels(notice.kind.value).inc()
            self._desk.add(notice, channels, now=now)
        return bool(found) or known != self._desk.in_error

    def _notices(self, message: Received) -> list[Notice]:
        if message.offset < self._desk.positions.get(message.partition, 0):
            return []  # gathered before a crash
        self._desk.positions[message.partition] = message.offset + 1
        if not message.value:
            self._desk.in_error.discard(message.key)
            return []
        try:
            change = MachineChange.model_validate_json(message.value)
        except ValidationError as error:
            log.warning("change_not_read", machine=message.key, reason=explain(error))
            return []
        return notices_of(change, at=message.published_at, in_error=self._desk.in_error)

    async def _acknowledge(self, batch: Batch) -> None:
        try:
            await self._reader.acknowledge(batch)
        except LeaseLost as error:
            log.warning("lease_lost", reason=str(error), records=len(batch.messages))

    async def _save(self) -> None:
        async with self._saving:
            content = zlib.compress(self._desk.model_dump_json().encode(), 1)
            await persist(partial(self._mandate.save, content), "store_unavailable", self._stop)

    async def _renew_again_and_again(self) -> None:
        while not await wait_for(self._ended, self._settings.lease.total_seconds() / 5):
            await persist(self._mandate.renew, "store_unavailable", self._stop)

    async def _send_again_and_again(self) -> None:
        while not await wait_for(self._stop, self._settings.look_every.total_seconds()):
            await self._places.look()
            await self._close_groups()
            await self._send_what_is_due()

    async def _close_groups(self) -> None:
        configuration = self._places.configuration
        quiet, longest = (
            timedelta(seconds=each) for each in (configuration.quiet_s, configuration.longest_s)
        )
        now = self._clock.now()
        ready = self._desk.close(quiet=quiet, longest=longest, now=now)
        for group in ready:
            self._desk.send(group, now=now)
        merged = self._desk.hold(quiet=quiet, longest=longest, now=now)
        for group in merged:
            metrics.NOTIFICATIONS.labels(group.channel, "merged").inc()
            log.warning("merged", channel=group.channel, kind=group.kind.value, messages=group.messages)
        if ready or merged:
            await self._save()

    async def _send_what_is_due(self) -> None:
        now = self._clock.now()
        due = [each for each in self._desk.deliveries if each.is_due(now)]
        if not due:
            return
        async with self._saving:  # else the revision could be between two
            await persist(self._mandate.confirm, "store_unavailable", self._stop)
        silences = await persist(partial(self._store.silences, now=now), "store_unavailable", self._stop)
        await asyncio.gather(*(self._deliver(each, silences, now) for each in due))
        await self._save()

    async def _deliver(self, delivery: Delivery, silences: Sequence[Silence], now: datetime) -> None:
        notices = [
            each
            for each in delivery.group.notices.values()
            if not any(silence.covers(each.machine_id, each.pools, now=now) for silence in silences)
        ]
        kind = delivery.group.kind.value
        channel = self._places.channels.get(delivery.group.channel)
        is_silenced = not notices and bool(delivery.group.notices)
        if is_silenced or channel is None:
            outcome = "silenced" if channel is not None else "no_channel"
            self._done(delivery, outcome)
            log.info("not_told", kind=kind, channel=delivery.group.channel, reason=outcome)
            return
        found = await persist(
            partial(self._store.power_outlets, [each.machine_id for each in notices]),
            "store_unavailable",
            self._stop,
        )
        outlets = {outlet.machine_id: outlet for outlet in found}
        message = message_of(delivery, notices, outlets, self._places.configuration.page)
        try:
            await channel.send(message)
        except NotSent as error:
            self._put_off(delivery, str(error), now, rest_s=error.rest_s)
            return
        except Misconfigured as error:
            self._put_off(delivery, str(error), now)
            return
        self._done(delivery, "sent")
        log.info("told", kind=kind, channel=delivery.group.channel, machines=message.count, id=delivery.id)

    def _done(self, delivery: Delivery, outcome: str) -> None:
        self._desk.deliveries.remove(delivery)
        metrics.NOTIFICATIONS.labels(delivery.group.channel, outcome).inc()

    def _put_off(self, delivery: Delivery, reason: str, now: datetime, *, rest_s: float = 0.0) -> None:
        """Try again later, if it is not too late for that. `rest_s`: not before that."""
        told = {"channel": delivery.group.channel, "reason": reason, "id": delivery.id}
        if now - delivery.made_at >= self._settings.give_up_after:
            self._done(delivery, "given_up")
            log.error("notification_lost", kind=delivery.group.kind.value, **told)
            return
        delivery.attempts += 1
        ceiling = min(
            _FIRST_PAUSE_S * 2 ** min(delivery.attempts, 20), self._settings.longest_pause.total_seconds()
        )
        pause_s = rest_s + random.uniform(ceiling / 2, ceiling)  # noqa: S311  # spreads load, guards nothing
        delivery.not_before = now + timedelta(seconds=pause_s)
        metrics.NOTIFICATIONS.labels(delivery.group.channel, "failed").inc()
        log.warning("not_sent", retry_in_s=round(pause_s, 1), **told)
