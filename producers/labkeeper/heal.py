"""`labkeeper heal`, and its `explain`: what self-healing would do with a machine, check by check."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import click
from rich.text import Text

from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.catalogue import HEAL_COMMANDS
from producers.labkeeper.client import MACHINES, FacadeClient, Json
from producers.labkeeper.documents import read_as
from producers.labkeeper.machine_ids import machine_id
from producers.labkeeper.output import Form, output_option, write_json, write_lines
from producers.labkeeper.text import printable
from producers.labkeeper.umbrella import LazyGroup
from schemas.healing import HealingCheck, HealingExplanation, HealingState

_STYLES: Final = {
    HealingState.WAITING: "yellow",
    HealingState.HELD: "yellow",
    HealingState.CYCLING: "cyan",
    HealingState.GAVE_UP: "red",
    HealingState.HEALED: "green",
}


_HELP: Final = """Say what self-healing would do, and why.

The rules are those of `labkeeper up --heal-policy`, or of `labkeeper watchdog`. What it has done stands in `labkeeper machines history`.

\b
  labkeeper heal explain rack4-07
  labkeeper heal check /etc/labkeeper/healing.json5
"""

command = LazyGroup(name="heal", entries=HEAL_COMMANDS, help=_HELP)


@click.command("explain")
@machine_id()
@output_option(Form.TABLE, Form.JSON)
@facade_options
def explain_command(access: Access, machine_id: str, output: Form) -> None:
    """Say what self-healing would do with a machine now: every check, and the one that decides.

    Nothing is done. A check that failed behind the one that decides would hold the machine as well.

    \b
      labkeeper heal explain rack4-07
      labkeeper heal explain rack4-07 -o json | jq .would_cycle
    """
    document = asyncio.run(_ask(access, machine_id))
    if output is Form.JSON:
        write_json(document)
    else:
        write_lines(_lines(read_as(HealingExplanation, document, "an explanation")))


async def _ask(access: Access, machine_id: str) -> Json:
    async with FacadeClient(access) as facade:
        return await facade.get(f"{MACHINES}/{machine_id}/healing")


def _lines(explanation: HealingExplanation) -> Iterator[Text]:
    yield Text(printable(explanation.machine_id), style="bold")
    yield Text.assemble("  ", _outcome(explanation))
    width = max((len(check.name) for check in explanation.checks), default=0)
    for check in explanation.checks:
        yield Text.assemble("  ", _mark(check), f" {printable(check.name):<{width}}  {printable(check.text)}")


def _outcome(explanation: HealingExplanation) -> Text:
    if explanation.would_cycle:
        return Text("a power cycle would be ordered now", style="cyan")
    if explanation.state is None:
        return Text(f"nothing to do: {printable(explanation.reason)}")
    return Text(
        f"{explanation.state.value}: {printable(explanation.reason)}", style=_STYLES[explanation.state]
    )


def _mark(check: HealingCheck) -> Text:
    return Text("ok", style="green") if check.passed else Text("no", style="yellow")
