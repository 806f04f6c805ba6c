"""`labkeeper dead`: list, show, replay and drop what no service could process. Talks to the broker, not to the façade."""

from __future__ import annotations

import asyncio
import functools
import getpass
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import click

from pipeline.broker.protocol import Received
from pipeline.clock import SystemClock
from pipeline.command import CommandFailed, ExitCode
from pipeline.factory import open_broker
from pipeline.settings import Connections
from producers.labkeeper.confirmation import confirm
from producers.labkeeper.dead_letter_office import WITH_LETTERS, DeadLetterOffice
from producers.labkeeper.dead_letters import Letter, Name, letter_of, original
from producers.labkeeper.home_lab import broker_options
from producers.labkeeper.output import (
    Column,
    Fit,
    Form,
    output_option,
    tell,
    tell_terminal,
    write,
    write_json,
    write_lines,
    write_table,
)
from producers.labkeeper.text import count_of, printable_json
from producers.labkeeper.umbrella import GuessingGroup
from schemas.wire import format_time

Result = TypeVar("Result")

_COLUMNS: Final = (Column("LETTER"), Column("PARKED AT"), Column("MACHINE"), Column("REASON", Fit.CUT))


@click.group("dead", cls=GuessingGroup)
def command() -> None:
    """Look after messages that no service could process.

    Such a message is parked with its reason, as it came, and kept for 30 days. Mend what was wrong, then replay it;
    or drop it, so that it is no longer listed.

    \b
      labkeeper dead list
      labkeeper dead show 0:17
      labkeeper dead replay --all-open --reason "unknown pool"
    """


def _at_the_office(place: Connections, work: Callable[[DeadLetterOffice], Awaitable[Result]]) -> Result:
    async def go() -> Result:
        async with open_broker(place) as broker:
            return await work(DeadLetterOffice(broker, SystemClock(), who=_who()))

    return asyncio.run(go())


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _as_name(_context: click.Context, _argument: click.Parameter, value: str) -> Name:
    try:
        return Name.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _as_names(context: click.Context, argument: click.Parameter, values: Sequence[str]) -> tuple[Name, ...]:
    return tuple(dict.fromkeys(_as_name(context, argument, value) for value in values))


_filters = (
    click.option(
        "--topic", type=click.Choice(WITH_LETTERS), help="Only letters that were read from this topic."
    ),
    click.option("--reason", default="", help="Only letters with this text in their reason, in any case."),
    click.option("--machine", help="Only letters of this machine."),
)


def _filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose letters; the command gets them as `chosen`."""

    @functools.wraps(function)
    def with_filter(*args: Any, topic: str | None, reason: str, machine: str | None, **options: Any) -> Any:
        return function(*args, chosen=Filter(topic, reason.casefold(), machine), **options)

    for option in reversed(_filters):
        with_filter = option(with_filter)
    return with_filter


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant."""

    topic: str | None
    reason: str
    """Folded to one case."""
    machine: str | None

    @property
    def topics(self) -> Sequence[str]:
        """Where to look."""
        return WITH_LETTERS if self.topic is None else (self.topic,)

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is meant."""
        return self.reason in letter.reason.casefold() and self.machine in (None, letter.key)


@dataclass(frozen=True, slots=True)
class Selection:
    """Letters to do something to: those named, or all open ones that pass the filter."""

    names: Sequence[Name]
    all_open: bool
    chosen: Filter
    again: bool = False
    """Whether a named one may have been dealt with before."""

    def __post_init__(self) -> None:
        if bool(self.names) == self.all_open:
            raise click.UsageError("Name the letters, or give --all-open.")
        if self.names and (self.chosen != Filter(None, "", None)):
            raise click.UsageError(
                "--topic, --reason and --machine choose among --all-open, not among names."
            )

    def among(self, found: Sequence[Letter]) -> list[Letter]:
        """The letters that are meant. Raises `CommandFailed` for one that is not there, or is dealt with already."""
        if self.all_open:
            return [letter for letter in found if letter.handled is None and self.chosen.takes(letter)]
        by_name = {letter.name: letter for letter in found}
        return [self._named(name, by_name.get(name)) for name in self.names]

    def _named(self, name: Name, letter: Letter | None) -> Letter:
        if letter is None:
            raise CommandFailed(f"there is no dead letter {name} (any more)", ExitCode.NOT_FOUND)
        handled = letter.handled
        if handled is not None and not self.again:
            raise CommandFailed(
                f"{name} was {handled.outcome} by {handled.who} at {_moment(handled.at)}", ExitCode.CONFLICT
            )
        return letter


@command.command("list", short_help="List the open dead letters.")
@_filter_options
@click.option("--all", "everything", is_flag=True, help="Also letters that were replayed or dropped.")
@output_option()
@broker_options
def list_command(place: Connections, chosen: Filter, everything: bool, output: Form) -> None:
    """List dead letters that nobody has dealt with yet, oldest first.

    \b
      labkeeper dead list
      labkeeper dead list --reason "unknown pool" -o name | xargs labkeeper dead replay
    """
    found = _at_the_office(place, lambda office: office.letters(chosen.topics))
    letters = [letter for letter in found if chosen.takes(letter) and (everything or letter.handled is None)]
    match output:
        case Form.JSON:
            write_json([_document(letter) for letter in letters])
        case Form.NAME:
            write_lines(str(letter.name) for letter in letters)
        case Form.TABLE if letters:
            _write_letters(letters, with_outcome=everything)
            tell_terminal(count_of(len(letters), "dead letter"))
    if not letters:
        tell("No dead letters." if everything else "No open dead letters.")


def _write_letters(letters: Sequence[Letter], *, with_outcome: bool) -> None:
    columns = [*_COLUMNS, *([Column("DONE")] if with_outcome else [])]
    write_table(
        columns,
        [
            (
                str(letter.name),
                _moment(letter.died_at),
                letter.key,
                letter.reason,
                *([_done(letter)] if with_outcome else []),
            )
            for letter in letters
        ],
    )


def _moment(at: datetime) -> str:
    return format_time(at.replace(microsecond=0))


def _done(letter: Letter) -> str:
    return "-" if letter.handled is None else f"{letter.handled.outcome} by {letter.handled.who}"


def _document(letter: Letter) -> dict[str, Any]:
    handled = letter.handled
    return {
        "letter": str(letter.name),
        "topic": letter.name.topic,
        "partition": letter.name.partition,
        "offset": letter.name.offset,
        "key": letter.key,
        "reason": letter.reason,
        "parked_at": format_time(letter.died_at),
        "source": letter.source,
        "size": letter.size,
        "handled": None
        if handled is None
        else {"outcome": handled.outcome, "who": handled.who, "at": format_time(handled.at)},
    }


@command.command("show", short_help="Show a dead letter with its value.")
@click.argument("letter", callback=_as_name)
@click.option("--raw", is_flag=True, help="Write the bytes of the value as they are, and nothing else.")
@broker_options
def show_command(place: Connections, letter: Name, raw: bool) -> None:
    """Show a dead letter: why, where, when, its headers and its value.

    \b
      labkeeper dead show 0:17
      labkeeper dead show 0:17 --raw > event.json
    """
    message = _at_the_office(place, lambda office: office.message(letter))
    if raw:
        write(message.value)
    else:
        write_lines(_told(message))


def _told(message: Received) -> Iterator[str]:
    letter = letter_of(message)
    yield f"reason     {letter.reason}"
    yield f"machine    {letter.key}"
    yield f"parked at  {_moment(letter.died_at)}"
    yield f"read from  {letter.source or 'not told'}"
    yield f"size       {count_of(letter.size, 'byte')}"
    yield "headers"
    for name, value in original(message).headers.items():
        yield f"    {name}: {value}"
    yield "value"
    for line in _value(message.value):
        yield f"    {line}"


def _value(value: bytes) -> Sequence[str]:
    """JSON laid out; anything else with its bytes escaped."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return [repr(value)[2:-1]]
    return printable_json(json.dumps(document, ensure_ascii=False, indent=2)).split("\n")


@command.command("replay", short_help="Publish dead letters once more.")
@click.argument("letters", metavar="[LETTER]...", nargs=-1, callback=_as_names)
@click.option("--all-open", is_flag=True, help="Every letter that nobody has dealt with yet.")
@_filter_options
@click.option("--again", is_flag=True, help="Take named letters that were replayed or dropped before, too.")
@broker_options
def replay_command(
    place: Connections, letters: Sequence[Name], all_open: bool, chosen: Filter, again: bool
) -> None:
    """Publish dead letters once more, as they were, where they came from.

    \b
      labkeeper dead replay 0:17 0:18
      labkeeper dead replay --all-open --reason "unknown pool"
    """
    selection = Selection(letters, all_open, chosen, again)

    async def work(office: DeadLetterOffice) -> int:
        found = selection.among(await office.letters(chosen.topics))
        await office.replay(found, lambda letter: write(f"{letter.name}: replayed\n"))
        return len(found)

    if _at_the_office(place, work) == 0:
        tell("No such dead letters are open.")


@command.command("drop", short_help="Give dead letters up.")
@click.argument("letters", metavar="[LETTER]...", nargs=-1, callback=_as_names)
@click.option("--all-open", is_flag=True, help="Every letter that nobody has dealt with yet.")
@_filter_options
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@broker_options
def drop_command(
    place: Connections, letters: Sequence[Name], all_open: bool, chosen: Filter, yes: bool
) -> None:
    """Give dead letters up: they are no longer listed. `list --all` still shows them until their time is over.

    \b
      labkeeper dead drop 0:17
    """
    selection = Selection(letters, all_open, chosen)
    found = selection.among(_at_the_office(place, lambda office: office.letters(chosen.topics)))
    if not found:
        tell("No such dead letters are open.")
        return
    if not yes:
        confirm(f"Give up {count_of(len(found), 'dead letter')}?", "nothing was dropped")
    _at_the_office(
        place, lambda office: office.drop(found, lambda letter: write(f"{letter.name}: dropped\n"))
    )
