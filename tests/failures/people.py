"""The people of a lab under failure: operators who act until they are heard, and somebody who watches the page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import aiohttp

from pipeline.broker.waiting import is_set_within
from pipeline.retry import Backoff
from pipeline.sse import EventStream, ServerSentEvent
from schemas.description import Description
from tests.failures.evidence import Standing

_MACHINES: Final = "/api/v1/machines"
_PATIENCE: Final = aiohttp.ClientTimeout(total=20)
_STREAM: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
_THINK_S: Final = 0.3
_LONGEST_PAUSE_S: Final = 0.5
_HANG_UP_AFTER: Final = 5000
"""Events after which the watcher closes its laptop and comes back."""
_PAGE: Final = 500

_id: Final = re.compile(r'"id":\["([^"]+)"\]')
_version: Final = re.compile(r'"RowVersion":(\d+)')


@dataclass(frozen=True, slots=True)
class _Action:
    method: str
    path: str
    body: Mapping[str, Any] | None
    leaves: Mapping[str, object]
    """What it changes in the machine's `Standing`."""


def _actions(number: int, machine_id: str) -> Sequence[_Action]:
    machine = f"{_MACHINES}/{machine_id}"
    note, reason = f"note {number}", f"reason {number}"
    wired = {"Machines": [{"MachineID": machine_id, "PowerCycleState": "available"}]}
    cycle = {"action": "cycle", "force": True}
    return (
        _Action("PUT", f"{machine}/note", {"message": note}, {"note": note}),
        _Action("PUT", f"{machine}/maintenance", {"reason": reason}, {"maintenance": reason}),
        _Action("POST", "/json/v1/powercycle/state/update", wired, {}),
        _Action("PUT", f"{machine}/power", cycle, {"power_cycle": True}),
        _Action("DELETE", f"{machine}/maintenance", None, {"maintenance": ""}),
        _Action("DELETE", f"{machine}/power", None, {"power_cycle": False}),
    )


class Operators:
    """Act on some machines, one action after the other, and insist until each has been acknowledged."""

    def __init__(self, url: str, machine_ids: Sequence[str]) -> None:
        self._url = url
        self._machine_ids = machine_ids
        self._stopping = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self.standing: dict[str, Standing] = {}
        self.acknowledged = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Act until they are told to stop, at the latest at the end of the context."""
        async with aiohttp.ClientSession(self._url, timeout=_PATIENCE) as session:
            self._working = asyncio.create_task(self._work(session))
            try:
                yield
            finally:
                self._working.cancel()
                await asyncio.wait({self._working})

    async def stop(self) -> None:
        """Finish what was begun, and do no more."""
        self._stopping.set()
        if self._working is not None:
            await self._working

    async def _work(self, session: aiohttp.ClientSession) -> None:
        for number in count():
            machine_id = self._machine_ids[number % len(self._machine_ids)]
            actions = _actions(number, machine_id)
            await self._insist(session, machine_id, actions[number // len(self._machine_ids) % len(actions)])
            if await is_set_within(self._stopping, _THINK_S):
                return

    async def _insist(self, session: aiohttp.ClientSession, machine_id: str, action: _Action) -> None:
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while not await self._act(session, action):
            await asyncio.sleep(backoff.next())
        self.acknowledged += 1
        self.standing[machine_id] = replace(self.standing.get(machine_id, Standing()), **action.leaves)  # type: ignore[arg-type]

    async def _act(self, session: aiohttp.ClientSession, action: _Action) -> bool:
        try:
            async with session.request(action.method, action.path, json=action.body) as answer:
                retry = answer.status == HTTPStatus.NOT_FOUND or answer.status >= 500
                told = f"{action.method} {action.path}: {answer.status} {await answer.text()}"
                assert retry or answer.ok, told
                return answer.ok
        except (aiohttp.ClientError, TimeoutError):
            return False


class Watcher:
    """A client of the event stream that believes what it is told, and comes back when it is cut off."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._told: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._confirmed: set[str] | None = None
        """While everything is told anew: the machines that have been."""
        self.backwards: list[str] = []
        self.connections = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the stream until the end of the context."""
        async with aiohttp.ClientSession(self._url, timeout=_STREAM) as session:
            following = asyncio.create_task(self._follow(session))
            try:
                yield
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following

    @property
    def machines(self) -> Mapping[str, Description]:
        """Each machine as it was told last."""
        return {machine_id: Description.model_validate_json(data) for machine_id, data in self._told.items()}

    @property
    def versions(self) -> Mapping[str, int]:
        """The row version of each machine as it was told last."""
        return self._versions

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        stream = EventStream()
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                await self._listen(session, stream)
                backoff.reset()
            stream = stream.resumed()
            await asyncio.sleep(backoff.next())

    async def _listen(self, session: aiohttp.ClientSession, stream: EventStream) -> None:
        headers = {"Last-Event-ID": stream.last_id} if stream.last_id else {}
        async with session.get(f"{_MACHINES}/watch", headers=headers) as response:
            response.raise_for_status()
            self.connections += 1
            heard = 0
            async for chunk in response.content.iter_any():
                for event in stream.feed(chunk):
                    self._hear(event)
                    heard += 1
                if heard >= _HANG_UP_AFTER and self._confirmed is None:
                    return

    def _hear(self, event: ServerSentEvent) -> None:
        match event.kind:
            case "machine":
                self._hear_of(event.data)
            case "reset":
                self._confirmed = set()
            case "synced" if self._confirmed is not None:
                for machine_id in self._told.keys() - self._confirmed:
                    del self._told[machine_id], self._versions[machine_id]
                self._confirmed = None
            case _:
                pass

    def _hear_of(self, data: str) -> None:
        (machine_id,), (version,) = _id.findall(data), map(int, _version.findall(data))
        known = self._versions.get(machine_id, 0)
        if version < known:
            self.backwards.append(f"{machine_id}: the event stream told version {version} after {known}")
        self._told[machine_id], self._versions[machine_id] = data, version
        if self._confirmed is not None:
            self._confirmed.add(machine_id)


async def listed(url: str) -> dict[str, Description]:
    """All machines, page by page, as the façade lists them."""
    found: dict[str, Description] = {}
    parameters: dict[str, Any] = {"limit": _PAGE}
    async with aiohttp.ClientSession(url, timeout=_PATIENCE, raise_for_status=True) as session:
        while True:
            async with session.get(_MACHINES, params=parameters) as answer:
                page = await answer.json()
            for document in page["machines"]:
                machine = Description.model_validate(document)
                found[machine.dimension("id")[0]] = machine
            if page["next_cursor"] is None:
                return found
            parameters["cursor"] = page["next_cursor"]
