"""The lab as the `powercycle` command sees it: a façade that takes orders for power, tells how they go, and who is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError

from consumers.powercycle_agent.http_control import (
    Access,
    FacadeUnavailable,
    HttpControl,
    answered,
    read_bounded,
    told_by,
)
from pipeline.errors import LabkeeperError
from schemas.api import PowerBody, PowerOutletList
from schemas.power import PowerRecord, PowerStep
from schemas.wire import explain

PATIENCE_S: Final = 3.0
"""For finding out whether the façade is there, and for what is told to it at last."""

_REQUEST_TIME: Final = aiohttp.ClientTimeout(total=20, sock_connect=PATIENCE_S)
_READY_TIME: Final = aiohttp.ClientTimeout(total=PATIENCE_S)

_Answer = TypeVar("_Answer", bound=BaseModel)


class LabRefused(LabkeeperError):
    """The façade answered, and will not do it. The text says why."""


class NotInLab(LabRefused):
    """The lab has no such machine."""


class Lab:
    """One façade. Whatever it cannot do now raises `FacadeUnavailable`, and whatever it will not, `LabRefused`."""

    def __init__(self, session: aiohttp.ClientSession, access: Access) -> None:
        self._session = session
        self._access = access
        self._control = HttpControl(session, access)

    @property
    def url(self) -> str:
        """Where it is."""
        return self._access.url

    def is_ours(self, url: str) -> bool:
        """Whether this address is one of the façade's, so that our token may be shown there."""
        return url.startswith(self.url + "/")

    async def trouble(self) -> str:
        """Why it cannot be used now; empty when it can. Raises `LabRefused` when something else answers there."""
        try:
            answer = await self._ask("GET", "/readyz", timeout=_READY_TIME)
        except FacadeUnavailable as error:
            return str(error)
        try:
            is_ready = json.loads(answer)["ready"]
        except (ValueError, KeyError, TypeError) as error:
            raise LabRefused(
                f"what answers at {self.url} is no Labkeeper façade: check --url, or drive the switches from here with --direct"
            ) from error
        return "" if is_ready else f"{self.url} is not ready"

    async def order(self, machine_id: str, wish: PowerBody, *, key: str) -> PowerRecord:
        """Queue a command, or get the one that is pending. The same key twice is one command."""
        body = wish.model_dump_json(exclude_none=True)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        path = f"/api/v1/machines/{quote(machine_id, safe='')}/power"
        return _read(PowerRecord, await self._ask("PUT", path, data=body, headers=headers))

    async def command(self, command_id: str) -> PowerRecord:
        """How far a command is."""
        return _read(PowerRecord, await self._ask("GET", f"/api/v1/power/commands/{command_id}"))

    async def outlets(self) -> Sequence[str]:
        """Ids of the machines whose power some agent has."""
        answer = _read(PowerOutletList, await self._ask("GET", "/api/v1/power/outlets"))
        return [outlet.machine_id for outlet in answer.outlets]

    async def fetch(self, url: str) -> bytes:
        """What stands at this address of ours."""
        return await self._ask("GET", url.removeprefix(self.url))

    async def report(self, steps: Sequence[PowerStep]) -> None:
        """Return once they are safe. Raises `FacadeUnavailable`, also when it takes too long, and `Rejected`."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._control.report(steps)
        except TimeoutError as error:
            raise FacadeUnavailable(f"{self.url} did not answer within {PATIENCE_S:g} s") from error

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        options.setdefault("timeout", _REQUEST_TIME)
        async with answered(self._session, self._access, method, path, **options) as answer:
            body = await read_bounded(answer)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return body
        reason = told_by(answer, body)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise FacadeUnavailable(f"{self.url} answered {reason}")
        raise NotInLab(reason) if answer.status == HTTPStatus.NOT_FOUND else LabRefused(reason)


def _read(model: type[_Answer], body: bytes) -> _Answer:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise LabRefused(
            f"the façade's answer is not understood ({explain(error)}): is it older or newer than this command?"
        ) from error
