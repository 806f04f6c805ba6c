"""What a person does once for a new lab: says which kind of device is attached where, and leaves a note here and there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from pydantic import ValidationError

from pipeline import logs
from pipeline.errors import Misconfigured, Rejected, StoreUnavailable
from pipeline.service import Abandoned, persist, wait_for
from producers.simulator.catalogue import Machine
from producers.simulator.destinations import refusal, unreachable
from schemas.api import MachineList
from schemas.description import AttachedDevice, Description

_ROUND_S: Final = 2.0
_AT_ONCE: Final = 8
_PAGE: Final = 1000
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_SUPPLIED: Final = {"gpu": ["MaliG52"], "cpu": ["arm64", "arm64-64"]}
"""What a ChromeOS device cannot tell of itself."""

Task = tuple[str, dict[str, Any]]
"""Path below the machine, and body to put there."""


class Operator:
    """Sets up machines as they appear, and leaves alone what somebody else has set. The session has address and token."""

    def __init__(self, session: aiohttp.ClientSession, lab: Iterable[Machine]) -> None:
        self._session = session
        self._left = {machine.id: machine for machine in lab}

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until every machine of the lab has appeared and is set up."""
        log = logs.get_logger()
        machines = len(self._left)
        try:
            while self._left and not stop.is_set():
                await persist(self._look, "lab_not_set_up_yet", stop)
                await wait_for(stop, _ROUND_S)
        except Abandoned:
            return
        except (Misconfigured, Rejected) as error:
            log.warning("lab_not_set_up", reason=str(error), machines=len(self._left))
            await stop.wait()
            return
        log.info("lab_set_up", machines=machines - len(self._left))

    async def _look(self) -> None:
        found = [
            (self._left[machine_id], description)
            async for description in self._machines()
            for machine_id in description.dimension("id")
            if machine_id in self._left
        ]
        for start in range(0, len(found), _AT_ONCE):
            await asyncio.gather(*(self._set_up(*each) for each in found[start : start + _AT_ONCE]))

    async def _set_up(self, machine: Machine, found: Description) -> None:
        for path, body in tasks_for(machine, found):
            await self._put(machine.id, path, body)
        del self._left[machine.id]

    async def _machines(self) -> AsyncIterator[Description]:
        cursor: str | None = None
        while True:
            parameters = {"limit": str(_PAGE)} | ({} if cursor is None else {"cursor": cursor})
            page = await self._page(parameters)
            for description in page.machines:
                yield description
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _page(self, parameters: dict[str, str]) -> MachineList:
        answer = await self._request("GET", "/api/v1/machines", params=parameters)
        try:
            return MachineList.model_validate_json(answer)
        except ValidationError as error:
            raise Rejected("what answers at the façade's address is no façade of ours") from error

    async def _put(self, machine_id: str, path: str, body: dict[str, Any]) -> None:
        await self._request("PUT", f"/api/v1/machines/{quote(machine_id)}/{path}", json=body)

    async def _request(self, method: str, path: str, **options: Any) -> bytes:
        try:
            async with self._session.request(method, path, timeout=_TIMEOUT, **options) as answer:
                content = await answer.read()
                if method == "PUT" and answer.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                    raise StoreUnavailable("somebody else changed or deleted the machine")
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise refusal(answer.status, content.decode(errors="replace"))
                return content
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoreUnavailable(unreachable(error)) from error


def tasks_for(machine: Machine, found: Description) -> list[Task]:
    """What to tell about the machine. What is not as it was born, somebody has decided."""
    tasks: list[Task] = []
    if found.attached_device == AttachedDevice.NONE != machine.attached_device:
        tasks.append(("attached-device", {"attached_device": machine.attached_device.value}))
    if machine.ssh_user_ip and not found.ssh_user_ip:
        tasks.append(("supplied-dimensions", {"ssh_user_ip": machine.ssh_user_ip, "dimensions": _SUPPLIED}))
    if machine.note and not found.note.user:
        tasks.append(("note", {"message": machine.note}))
    return tasks
