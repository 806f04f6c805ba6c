"""Where to send to: the options that say so, and the connections they lead to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import click

from pipeline import command as commands
from pipeline.facade_access import TOKEN_VARIABLE
from pipeline.factory import open_broker
from pipeline.settings import Connections
from producers.simulator.destinations import BrokerDestination, Destination, HttpDestination
from producers.simulator.settings import FacadeAccess

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """A broker, a façade, or both."""

    connections: Connections | None
    """Events go there if it is known."""
    facade: FacadeAccess | None
    """Machines are set up there, and events go there if no broker is known."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A target that is connected to."""

    destination: Destination
    """Takes events."""
    facade: aiohttp.ClientSession | None
    """Takes requests, if a façade is known."""


def target_options(function: Decorated) -> Decorated:
    """Add the options that say where to send to; `target_of` makes them into a `Target`."""
    token_file = commands.token_file_option("File with an operator's API token for the façade.")
    url = commands.url_option(
        "A façade, such as http://127.0.0.1:8000. Events are posted to it unless a broker is named."
    )
    return commands.publishing_options(url(token_file(function)))


def target_of(options: dict[str, Any]) -> Target:
    """The target that the options name; takes those of `target_options` out of `options`."""
    url, token_file = options.pop("url"), options.pop("token_file")
    connections = commands.take_connections(options)
    if connections is None and not url:
        raise click.UsageError("say where to send events: --url of a façade, or --broker or --database-url")
    return Target(connections, _facade(url, token_file) if url else None)


def _facade(url: str, token_file: Path | None) -> FacadeAccess:
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("expected an address such as http://127.0.0.1:8000", param_hint="--url")
    token = token_file.read_text("utf-8") if token_file is not None else os.environ.get(TOKEN_VARIABLE, "")
    return FacadeAccess(url.rstrip("/"), token.strip() or None)


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Opened]:
    """Connect."""
    async with AsyncExitStack() as stack:
        session: aiohttp.ClientSession | None = None
        destination: Destination
        if target.facade is not None:
            session = aiohttp.ClientSession(target.facade.url, headers=target.facade.headers)
            await stack.enter_async_context(session)
        if target.connections is not None:
            destination = BrokerDestination(await stack.enter_async_context(open_broker(target.connections)))
        elif session is not None:
            destination = HttpDestination(session)
        else:
            raise ValueError("a target has a broker or a façade")
        yield Opened(destination, session)
