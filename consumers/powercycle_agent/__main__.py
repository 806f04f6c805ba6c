"""`labkeeper powercycle-agent`: parse, connect, serve."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import click

from consumers.powercycle_agent.configuration import read_inventory
from consumers.powercycle_agent.control import ControlPlane
from consumers.powercycle_agent.http_control import Access, HttpControl
from consumers.powercycle_agent.identity import alone_in, owner_of
from consumers.powercycle_agent.locks import Locks
from consumers.powercycle_agent.places import CONFIGURATION, secrets_of, state_directory
from consumers.powercycle_agent.registry import Registry, open_driver
from consumers.powercycle_agent.reload import Configuration
from consumers.powercycle_agent.service import Agent, Parts
from consumers.powercycle_agent.settings import LEASE_S, SHORTEST_LEASE_S, AgentSettings
from consumers.powercycle_agent.soft_reboot import ask_to_reboot
from consumers.powercycle_agent.switching import Patience
from pipeline import command as commands
from pipeline.broker.greeting import greet
from pipeline.clock import SystemClock
from pipeline.facade_access import TOKEN_VARIABLE, check_url
from pipeline.service import serve
from pipeline.settings import Connections, ServiceSettings
from schemas.ids import is_caller_name

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_Connect = Callable[[asyncio.Event], AbstractAsyncContextManager[ControlPlane]]


def _name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    name = socket.gethostname() if value is None else value
    if not is_caller_name(name):
        raise click.BadParameter(
            f"{name!r}: a name has letters, digits and . _ @ + -, begins with a letter or digit, and is not longer than 128"
        )
    return name


def _agent_options(function: Decorated) -> Decorated:
    for option in (
        click.option(
            "--lease",
            type=click.FloatRange(SHORTEST_LEASE_S, 600),
            default=LEASE_S,
            show_default=True,
            help="Seconds after which a process of this name that is not heard of any more is taken for dead.",
        ),
        click.option(
            "--probe-every",
            type=click.FloatRange(1, 86_400),
            default=120.0,
            show_default=True,
            help="Seconds between two looks whether a controller answers; its machines are reported then.",
        ),
        click.option(
            "--state-dir",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of the journal and the locks, shared with the `powercycle` command of this host.  "
            "[default: LABKEEPER_POWERCYCLE_STATE, or /var/lib/labkeeper/powercycle]",
        ),
        click.option(
            "--name",
            callback=_name,
            envvar="LABKEEPER_AGENT",
            show_envvar=True,
            help="Name of this agent, such as its rack's. A second process of the same name stands in for the first; with "
            "tokens, it is the token's name.  [default: the host's name]",
        ),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            default=CONFIGURATION,
            show_default=True,
            help="Which machine hangs on which port of which controller. Read again when it changes, and on SIGHUP.",
        ),
    ):
        function = option(function)
    return function


def _lab_options(function: Decorated) -> Decorated:
    for option in (
        commands.token_file_option("With --url: file with the agent's API token."),
        commands.url_option(
            "A façade, for racks that reach neither broker nor database. Not asked where a database is named."
        ),
    ):
        function = option(function)
    return commands.pool_option(commands.publishing_options(function))


@click.command("powercycle-agent")
@_lab_options
@_agent_options
@commands.service_options
def command(
    url: str | None,
    token_file: Path | None,
    config: Path,
    name: str,
    state_dir: Path | None,
    probe_every: float,
    lease: float,
    **options: Any,
) -> None:
    """Drive the power of the machines in a rack.

    It carries out the lab's power commands on the controllers of its configuration, and says which of them answer. What it is
    about to do is on disk before it does it: after a crash every port that was switched off is switched on again.

    \b
      labkeeper powercycle-agent --name rack4 --database-url postgresql:///labkeeper
      labkeeper powercycle-agent --name rack4 --url https://lab.example.org --token-file /etc/labkeeper/token
    """
    service = _service_of(options)
    options.pop("pool")
    connections = commands.take_connections(options)
    if connections is not None and connections.database_url:
        connect: _Connect = partial(_over_broker, connections, name)
    elif url is not None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        connect = partial(_over_http, Access(check_url(url), token, token_file))
    else:
        raise click.UsageError(
            "say how to reach the lab: --url of a façade, or --database-url, and --broker unless it is the embedded one"
        )
    settings = AgentSettings(
        name=name,
        state_dir=state_dir or state_directory(os.environ),
        lease=timedelta(seconds=lease),
        probe_every=timedelta(seconds=probe_every),
        patience=Patience(reserve=lease / 3),
    )

    async def work(stop: asyncio.Event) -> None:
        configuration = Configuration(config, partial(read_inventory, registry=Registry.installed()))
        await _serve(settings, configuration, connect, stop)

    signal.signal(
        signal.SIGHUP, signal.SIG_IGN
    )  # it would kill us before we listen to it, and then we read the file
    serve("powercycle-agent", work, service)


async def _serve(
    settings: AgentSettings, configuration: Configuration, connect: _Connect, stop: asyncio.Event
) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, configuration.reload.set)
    secrets = secrets_of(os.environ)
    async with (
        alone_in(settings.state_dir, Locks(settings.locks), stop) as is_ours,
        connect(stop) as control,
    ):
        if is_ours:
            parts = Parts(
                control,
                configuration,
                lambda controller: open_driver(controller, secrets),
                SystemClock(),
                owner_of(settings.state_dir),
                ask_to_reboot,
            )
            await Agent(parts, settings).run(stop)


@asynccontextmanager
async def _over_http(access: Access, _stop: asyncio.Event) -> AsyncIterator[ControlPlane]:
    async with aiohttp.ClientSession() as session:
        yield HttpControl(session, access)


@asynccontextmanager
async def _over_broker(
    connections: Connections, name: str, stop: asyncio.Event
) -> AsyncIterator[ControlPlane]:
    from consumers.powercycle_agent.broker_control import BrokerControl  # noqa: PLC0415  # brings a database driver
    from pipeline.factory import open_broker, open_store  # noqa: PLC0415  # as above

    async with open_store(connections, stop) as store, open_broker(connections) as broker:
        await greet(broker, stop)
        yield BrokerControl(store, broker, name)


def _service_of(options: dict[str, Any]) -> ServiceSettings:
    names = ("metrics_port", "metrics_host", "log_format", "log_level")
    return commands.service_settings(**{name: options.pop(name) for name in names})


if __name__ == "__main__":
    commands.run(command)
