"""What the old `powercycle` said, word for word, for those who have taught their scripts to read it. All of it goes to standard error."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import click

from consumers.powercycle_agent.plain_text import plain

NOT_CONNECTED = "Skipping connection test. Use --connect flag to force connection testing."
CONFIG_BROKEN = "Unable to parse config file.  Got error: {}"
VALID_IDS = "Valid device IDs are:"
NO_LIST = "Could not fetch list of down bots/devices: {}"
NOTHING_TO_FIX = "Nothing to autofix."
WILL_FIX = "Will autofix [{}] in {:g} seconds."
CANCEL_IT = "Use Ctrl+C to cancel if this is unwanted/wrong."
NO_ID = "No device id given to power cycle."
INVALID_ID = "Invalid device ID."
NOT_CYCLED = "Unable to power cycle device {}. Got error: {}"
NOT_REPORTED = "Could not report powercyling through daemon: {}"  # spelled so
ALL_DONE = "Power cycle successful. All done."

_INDENT = "    "


def say(text: str) -> None:
    """Say it, in single lines that a terminal does not obey. That nobody listens any more must not keep a port off."""
    with suppress(OSError):
        for line in text.splitlines():
            click.echo(plain(line), err=True)


def say_ids(ids: Iterable[str]) -> None:
    """The list of those that there are, one a line, indented."""
    say("\n".join([VALID_IDS, *(_INDENT + each for each in sorted(ids))]))


def say_step(machine_id: str, status: str, text: str) -> None:
    """How far a device is."""
    say(f"{machine_id}: {status}" + (f" ({text})" if text else ""))
