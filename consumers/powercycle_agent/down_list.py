"""`--auto_fix`: which of the machines that are down this host should cycle, as the older power system listed them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import aiohttp
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.http_control import FacadeUnavailable, read_bounded
from consumers.powercycle_agent.lab_client import Lab
from pipeline.errors import LabkeeperError
from pipeline.facade_access import check_url
from schemas.api import DEVICE_MISSING, DEVICE_SUFFIX, JUMPHOST_PREFIX
from schemas.wire import Bool, WireModel, explain

_TIME: Final = aiohttp.ClientTimeout(total=20, sock_connect=5)


class ListNotFetched(LabkeeperError):
    """The list cannot be had. The text says why."""


class Down(WireModel):
    """An entry of the list."""

    bot_id: str
    host_id: str
    status: str = ""
    silenced: Bool = False


class _DownList(WireModel):
    list: Sequence[Down] | None = None


async def fetch_down(session: aiohttp.ClientSession, lab: Lab | None, url: str) -> Sequence[Down]:
    """The list at this address; our token is shown to our façade only. Raises `ListNotFetched`."""
    try:
        ours = lab is not None and lab.is_ours(url)
        body = await lab.fetch(url) if lab is not None and ours else await _fetch(session, url)
        return _DownList.model_validate_json(body).list or []
    except ValidationError as error:
        raise ListNotFetched(f"{url}: {explain(error)}") from error
    except LabkeeperError as error:
        raise ListNotFetched(str(error)) from error


async def _fetch(session: aiohttp.ClientSession, url: str) -> bytes:
    check_url(url.partition("?")[0])
    try:
        async with session.get(url, timeout=_TIME) as answer:
            answer.raise_for_status()
            return await read_bounded(answer)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise FacadeUnavailable(f"{url}: {plainly(error)}") from error


def choose(down: Sequence[Down], names: Collection[str], known: Collection[str]) -> list[str]:
    """What a host of these names should cycle, in the list's order. `known`: what can be cycled.

    A missing device is called by its machine's id where nobody knows it by a name of its own.
    """
    hosts = {*names, *(JUMPHOST_PREFIX + name for name in names)}
    ours = [each for each in down if each.host_id in hosts and not each.silenced]
    return list(dict.fromkeys(_device_of(each, known) for each in ours))


def _device_of(bot: Down, known: Collection[str]) -> str:
    device = bot.bot_id + DEVICE_SUFFIX
    return device if bot.status == DEVICE_MISSING and device in known else bot.bot_id
