"""`powercycle`: cycles the power of devices, with the flags, messages and exit codes of the old command of that name.

While the lab is there it orders the cycles there, and the lab's agents do them. While it is not, this process drives the
switches itself.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import click
from click.core import ParameterSource

from consumers.powercycle_agent.direct import Wish
from consumers.powercycle_agent.errand import Errand, Flags
from consumers.powercycle_agent.go_flags import GoCommand
from consumers.powercycle_agent.http_control import Access
from consumers.powercycle_agent.old_messages import say
from consumers.powercycle_agent.places import CONFIGURATION
from pipeline import command as commands
from pipeline import logs
from pipeline.command import ExitCode
from pipeline.errors import LabkeeperError
from pipeline.facade_access import DEFAULT_URL, TOKEN_VARIABLE, check_url
from schemas.power import MAX_DELAY_S, MAX_TEXT

DOWN_BOTS: Final = "/down_bots"
AUTO_FIX_PAUSE_S: Final = 5.0
_INTERRUPTED: Final = 130

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _old_flags(function: Decorated) -> Decorated:
    for option in (
        click.option("--power_cycle", is_flag=True, hidden=True, help="Has had no effect for years."),
        click.option(
            "--daemon_url",
            default="",
            metavar="URL",
            help="An old powercycle-daemon, such as http://localhost:9210/powercycled_bots, that shall hear of it as well.",
        ),
        click.option(
            "--auto_fix_url",
            metavar="URL",
            help="Where that list is; once https://power.skia.org/down_bots.  [default: /down_bots of the façade]",
        ),
        click.option("--auto_fix", is_flag=True, help="Cycle what the list of down bots has for this host."),
        click.option("-l", "--l", "lists", is_flag=True, help="List the known ids."),
        click.option("--connect", is_flag=True, help="First ask all controllers whether they answer."),
        click.option(
            "--delay",
            type=click.FloatRange(0, MAX_DELAY_S),
            default=0.0,
            metavar="SECONDS",
            help="Seconds between off and on.  [default: as the configuration says]",
        ),
        click.option(
            "--conf",
            type=click.Path(dir_okay=False, path_type=Path),
            default=CONFIGURATION,
            show_default=True,
            help="Which device hangs on which port of which controller.",
        ),
    ):
        function = option(function)
    return function


def _reason(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if len(value) > MAX_TEXT:
        raise click.BadParameter(f"a reason has up to {MAX_TEXT} characters")
    return value


def _new_flags(function: Decorated) -> Decorated:
    for option in (
        click.option(
            "--name",
            envvar="LABKEEPER_AGENT",
            show_envvar=True,
            help="Name of this host's agent; --auto_fix takes what is listed for it.  [default: the host's name]",
        ),
        click.option(
            "--state-dir",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of journal and locks, the same as the agent's.  "
            "[default: LABKEEPER_POWERCYCLE_STATE, or /var/lib/labkeeper/powercycle]",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="Also while a task runs, while somebody else maintains it, or with a controller in error.",
        ),
        click.option(
            "--reason",
            default="",
            callback=_reason,
            metavar="TEXT",
            help="Why, for whoever wonders later.",
        ),
        click.option("--direct", is_flag=True, help="Drive the switches from here, though the lab be there."),
        commands.token_file_option("File with your API token."),
        commands.url_option("Where the façade is. Empty: there is none.", default=DEFAULT_URL),
    ):
        function = option(function)
    return function


@click.command("powercycle", cls=GoCommand)
@click.argument("ids", nargs=-1, metavar="[DEVICE ID]...")
@_old_flags
@_new_flags
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Switch devices off and on again.

    The lab's agents do it while the façade answers. While it does not, or with --direct, the switches are driven from here:
    run it on the host, and as the user, of the agent that has them. What was done is told to the lab afterwards.

    Flags may be written with one dash, and as -name=value. Unlike the old command, this one tries all devices though one
    fails; and a report that fails is told, but the devices were cycled. Exit code 0: all were cycled; 1: not all, or none;
    2: a flag is wrong; 130: interrupted, and what was switched off is on again.

    \b
      powercycle -l
      powercycle --delay 10 skia-rpi-001-device
      powercycle --auto_fix
    """
    try:
        return asyncio.run(_run(_flags(context, **options)))
    except KeyboardInterrupt:
        say("Interrupted.")
        return _INTERRUPTED
    except LabkeeperError as error:
        say(str(error))
        return ExitCode.FAILED


async def _run(flags: Flags) -> int:
    async with aiohttp.ClientSession() as session:
        return await Errand(flags, session).run()


def _flags(
    context: click.Context,
    *,
    ids: tuple[str, ...],
    conf: Path,
    lists: bool,
    connect: bool,
    auto_fix: bool,
    auto_fix_url: str | None,
    daemon_url: str,
    url: str,
    token_file: Path | None,
    direct: bool,
    state_dir: Path | None,
    name: str | None,
    delay: float,
    reason: str,
    force: bool,
    power_cycle: bool,  # noqa: ARG001  # as ever
) -> Flags:
    access = _access(url, token_file)
    if auto_fix and ids:
        raise click.UsageError("Give device ids or --auto_fix, not both.")
    if auto_fix and auto_fix_url is None:
        if access is None:
            raise click.UsageError("--auto_fix needs --auto_fix_url where there is no --url.")
        auto_fix_url = access.url + DOWN_BOTS
    return Flags(
        ids=ids,
        conf=conf,
        conf_is_optional=context.get_parameter_source("conf") is ParameterSource.DEFAULT,
        lists=lists,
        connect=connect,
        auto_fix=auto_fix,
        auto_fix_url=auto_fix_url or "",
        pause_s=AUTO_FIX_PAUSE_S,
        daemon_url=check_url(daemon_url) if daemon_url else "",
        access=access,
        is_direct=direct,
        state_dir=state_dir,
        name=name or socket.gethostname(),
        wish=Wish(_person(), reason, delay or None),
        force=force,
        usage=context.get_help(),
    )


def _access(url: str, token_file: Path | None) -> Access | None:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return Access(check_url(url), token, token_file) if url else None


def _person() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def main() -> None:
    """Entry point. A terminal that closes, or a service manager, interrupts as Ctrl-C does: what is off is switched on."""
    logs.configure("powercycle", level="error")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    commands.run(command, name="powercycle")


if __name__ == "__main__":
    main()
