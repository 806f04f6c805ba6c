"""`labkeeper monitor`: parse, connect, monitor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import platformdirs

from pipeline import command as commands
from pipeline import logs
from pipeline.clock import SystemClock
from pipeline.facade_access import TOKEN_VARIABLE, Token, check_url
from pipeline.service import serve
from pipeline.settings import ServiceSettings
from producers.machine_monitor.identity import ID_VARIABLE, machine_id
from producers.machine_monitor.probes.gce import DEFAULT_HOST
from producers.machine_monitor.probes.ssh import SshSettings
from producers.machine_monitor.service import interrogate_once, run_monitor, send_once
from producers.machine_monitor.settings import (
    DEFAULT_PERIOD,
    DEFAULT_PORT,
    MonitorSettings,
    ProbeSettings,
)
from producers.machine_monitor.sinks.broker import OpenBroker
from producers.machine_monitor.swarming import DEFAULT_METADATA_URL, SwarmingSettings
from schemas.description import AttachedDevice
from schemas.ids import check_machine_id

RACK_VARIABLE: Final = "MY_RACK_NAME"
GCE_VARIABLE: Final = "GCE_METADATA_HOST"
_OFF: Final = "off"
_DEFAULTS: Final = ProbeSettings()

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _port(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    if value == _OFF:
        return None
    if not value.isascii() or not value.isdecimal() or int(value) > 65535:
        raise click.BadParameter(f"{value!r}: expected a port, 0 for any free one, or {_OFF}")
    return int(value)


def _destination_options(function: Decorated) -> Decorated:
    for option in (
        commands.token_file_option("File with this machine's API token for the façade."),
        commands.url_option(
            "A façade, such as http://127.0.0.1:8000: it says what is attached to this machine, and takes the events unless "
            "a broker is named."
        ),
    ):
        function = option(function)
    return commands.publishing_options(function)


def _machine_options(function: Decorated) -> Decorated:
    for option in (
        click.option(
            "--state-dir",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder for unsent events and what else must outlive this process.  "
            "[default: one for each machine id, in this user's folder for state]",
        ),
        click.option(
            "--attached-device",
            type=click.Choice([device.value for device in AttachedDevice]),
            help="What to interrogate, whatever the machine's description says.",
        ),
        click.option(
            "--period",
            type=click.FloatRange(0.1, 86_400),
            default=DEFAULT_PERIOD.total_seconds(),
            show_default=True,
            help="Seconds between two reports. The watchdog must know it too.",
        ),
        click.option(
            "--machine-id", help=f"Which machine this is.  [default: {ID_VARIABLE}, else the host's name]"
        ),
    ):
        function = option(function)
    return function


def _device_options(function: Decorated) -> Decorated:
    for option in (
        click.option(
            "--pyocd-config",
            type=click.Path(dir_okay=False, path_type=Path),
            default=_DEFAULTS.pyocd_config,
            show_default=True,
            help="JSON5 file whose `device_type` names the board.",
        ),
        click.option(
            "--ssh-address-file",
            type=click.Path(dir_okay=False, path_type=Path),
            default=_DEFAULTS.address_file,
            show_default=True,
            help="Written for tasks: the address of the ChromeOS device.",
        ),
        click.option(
            "--ssh-identity",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Private key for ChromeOS devices.  [default: those in ~/.ssh]",
        ),
        click.option(
            "--ssh-known-hosts",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Host keys of ChromeOS devices; they are always checked.  [default: ~/.ssh/known_hosts]",
        ),
    ):
        function = option(function)
    return function


def _swarming_options(function: Decorated) -> Decorated:
    for option in (
        click.option(
            "--metadata-url",
            default=DEFAULT_METADATA_URL,
            show_default=True,
            help="Gives the token with which the Swarming bot is downloaded.",
        ),
        click.option(
            "--python-exe",
            type=click.Path(path_type=Path),
            help="Python that runs the Swarming bot, absolute.",
        ),
        click.option(
            "--swarming-bot-zip",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The Swarming bot, absolute; downloaded if it is not there.",
        ),
        click.option(
            "--start-swarming", is_flag=True, help="Start the Swarming bot, and again whenever it ends."
        ),
        click.option(
            "--port",
            default=str(DEFAULT_PORT),
            show_default=True,
            callback=_port,
            help=f"Port on loopback for the Swarming bot's questions; 0 is any free one, `{_OFF}` is none.",
        ),
    ):
        function = option(function)
    return function


@click.command("monitor")
@click.option("--once", is_flag=True, help="Report once, then exit.")
@click.option("--print", "show", is_flag=True, help="With --once: print the event instead of sending it.")
@_destination_options
@_machine_options
@_device_options
@_swarming_options
@commands.service_options
def command(once: bool, show: bool, **options: Any) -> None:
    """Report this host, or the device attached to it, every 30 seconds.

    What cannot be sent waits on disk and is sent in order later. The machine's description says what to interrogate;
    an operator sets it on the web page.

    \b
      labkeeper monitor --url http://127.0.0.1:8000
      labkeeper monitor --once --print
    """
    if show and not once:
        raise click.UsageError("--print goes with --once")
    service = _service_of(options)
    connect = _broker_of(options)
    if connect is None and options["url"] is None and not show:
        raise click.UsageError("say where to send events: --url of a façade, or --broker or --database-url")
    settings = _settings(**options)
    if once:
        logs.configure("monitor", log_format=service.log_format, level=service.log_level)
        asyncio.run(_once(settings, connect, show=show))
        return

    async def work(stop: asyncio.Event) -> None:
        await run_monitor(settings, stop, clock=SystemClock(), open_broker=connect)

    serve("monitor", work, service)


async def _once(settings: MonitorSettings, connect: OpenBroker | None, *, show: bool) -> None:
    if not show:
        await send_once(settings, clock=SystemClock(), open_broker=connect)
        return
    event = await interrogate_once(settings, clock=SystemClock(), open_broker=connect)
    click.echo(event.model_dump_json(indent=2))


def _service_of(options: dict[str, Any]) -> ServiceSettings:
    names = ("metrics_port", "metrics_host", "log_format", "log_level")
    return commands.service_settings(**{name: options.pop(name) for name in names})


def _broker_of(options: dict[str, Any]) -> OpenBroker | None:
    connections = commands.take_connections(options)
    if connections is None:
        return None
    from pipeline.factory import open_broker  # noqa: PLC0415  # brings a database driver, which few monitors need

    return partial(open_broker, connections)


def _settings(
    *,
    url: str | None,
    token_file: Path | None,
    machine_id: str | None,
    period: float,
    attached_device: str | None,
    state_dir: Path | None,
    port: int | None,
    ssh_known_hosts: Path | None,
    ssh_identity: Path | None,
    ssh_address_file: Path,
    pyocd_config: Path,
    **swarming: Any,
) -> MonitorSettings:
    name = _machine_id(machine_id)
    return MonitorSettings(
        machine_id=name,
        state_dir=state_dir or platformdirs.user_state_path("labkeeper") / "monitor" / name,
        home=Path.home(),
        url=None if url is None else check_url(url),
        token=Token(value=os.environ.get(TOKEN_VARIABLE, "").strip(), file=token_file),
        period=timedelta(seconds=period),
        attached_device=None if attached_device is None else AttachedDevice(attached_device),
        port=port,
        rack=os.environ.get(RACK_VARIABLE, ""),
        probes=ProbeSettings(
            ssh=SshSettings(known_hosts=ssh_known_hosts, identity=ssh_identity),
            address_file=ssh_address_file,
            pyocd_config=pyocd_config,
            metadata_host=os.environ.get(GCE_VARIABLE) or DEFAULT_HOST,
        ),
        swarming=_swarming(**swarming),
    )


def _machine_id(given: str | None) -> str:
    if given is None:
        return machine_id(os.environ, socket.gethostname())
    try:
        return check_machine_id(given)
    except ValueError as error:
        raise click.BadParameter(f"{given!r}: {error}", param_hint="--machine-id") from error


def _swarming(
    *, start_swarming: bool, swarming_bot_zip: Path | None, python_exe: Path | None, metadata_url: str
) -> SwarmingSettings | None:
    if not start_swarming:
        return None
    if swarming_bot_zip is None or python_exe is None:
        raise click.UsageError("--start-swarming needs --swarming-bot-zip and --python-exe")
    return SwarmingSettings(swarming_bot_zip, python_exe, metadata_url)


if __name__ == "__main__":
    commands.run(command)
