"""`labkeeper machines watch`: a line for everything that happens, for ever or until enough has happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click
from rich.text import Text

from pipeline.clock import SystemClock
from pipeline.command import CommandFailed, ExitCode
from pipeline.retry import Backoff
from pipeline.sse import EventStream, ServerSentEvent
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import MACHINES, FacadeClient, StreamBroken
from producers.labkeeper.fleet_view import FleetView, News, NewsKind
from producers.labkeeper.machine_ids import machine_ids
from producers.labkeeper.machine_view import State, in_words, state_of
from producers.labkeeper.output import Form, output_option, tell, write_json, write_lines
from producers.labkeeper.text import count_of, printable
from schemas.changes import ChangeKind
from schemas.wire import format_time

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
"""Seconds between two attempts to connect again."""

_INTERRUPTED: Final = 130

_TOLD_BY_STATE: Final = (
    ChangeKind.MODE,
    ChangeKind.QUARANTINE,
    ChangeKind.RECOVERY,
    ChangeKind.DOWN,
    ChangeKind.TASK,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which news are shown, and when it is enough."""

    ids: Sequence[str]
    initial: bool
    heartbeats: bool
    count: int | None

    def shows(self, news: News) -> bool:
        """Whether the person wants to see it."""
        match news.kind:
            case NewsKind.PRESENT:
                return self.initial
            case NewsKind.HEARTBEAT:
                return self.heartbeats
            case _:
                return True


@click.command("watch")
@machine_ids(required=False)
@click.option("--initial", is_flag=True, help="First show each machine as it is now.")
@click.option("--heartbeats", is_flag=True, help="Also show when a machine was merely heard from.")
@click.option("--count", "-n", type=click.IntRange(min=1), help="End after so many lines.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so long, with exit code 6 if --count was not reached.  [default: never]",
)
@output_option(Form.TABLE, Form.JSON)
@facade_options
@click.pass_context
def command(
    context: click.Context,
    access: Access,
    ids: Sequence[str],
    initial: bool,
    heartbeats: bool,
    count: int | None,
    timeout: float | None,
    output: Form,
) -> None:
    """Follow machines as they change, a line for each change; all machines, or those named.

    Lost connections are taken up again where they broke off. Ctrl-C ends it. Times are UTC.
    With -o json each line is a JSON object: at, kind, id, changes, machine.

    \b
      labkeeper machines watch
      labkeeper machines watch rack4-07 --count 1 --timeout 60
      labkeeper machines watch --initial -o json | jq -r .id
    """
    wanted = Wanted(ids, initial, heartbeats, count)
    show = _as_json if output is Form.JSON else _as_line
    try:
        reached = asyncio.run(_within(timeout, _follow(access, wanted, show)))
    except KeyboardInterrupt:
        context.exit(ExitCode.OK if count is None else _INTERRUPTED)
    if not reached and count is not None:
        raise CommandFailed(
            f"it did not come to {count_of(count, 'change')} in {timeout:g} s", ExitCode.TIMED_OUT
        )


async def _within(seconds: float | None, following: Any) -> bool:
    try:
        async with asyncio.timeout(seconds) as limit:
            await following
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


async def _follow(access: Access, wanted: Wanted, show: Callable[[News, datetime], None]) -> None:
    """Show what happens until it is enough."""
    view = FleetView(wanted.ids)
    clock = SystemClock()
    shown = 0
    async with FacadeClient(access) as facade, aclosing(_events(facade, _path(wanted.ids))) as events:
        async for event in events:
            was_synced = view.synced
            for news in view.apply(event):
                if wanted.shows(news):
                    show(news, clock.now())
                    shown += 1
                if shown == wanted.count:
                    return
            if view.synced and not was_synced:
                tell(f"Watching {_whom(wanted.ids, len(view))}.")


def _path(ids: Sequence[str]) -> str:
    return f"{MACHINES}/{ids[0]}/watch" if len(ids) == 1 else f"{MACHINES}/watch"


def _whom(ids: Sequence[str], known: int) -> str:
    if not ids:
        return count_of(known, "machine")
    unknown = len(ids) - known
    return ", ".join(ids) + (f" ({unknown} not known yet)" if unknown else "")


async def _events(facade: FacadeClient, path: str) -> AsyncGenerator[ServerSentEvent]:
    """All events, over as many connections as it takes. Only the first connection must succeed."""
    stream = EventStream()
    backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    connected_before = False
    while True:
        stream = stream.resumed()
        try:
            async with facade.stream(path, last_event_id=stream.last_id or None) as chunks:
                if connected_before:
                    tell("Connected again.")
                connected_before = True
                async for chunk in chunks:
                    for event in stream.feed(chunk):
                        backoff = Backoff(stream.retry_seconds or _FIRST_PAUSE, _LONGEST_PAUSE)
                        yield event
        except StreamBroken:
            tell("The connection is lost; connecting again …")
        except CommandFailed as error:
            if not connected_before or error.code not in (ExitCode.UNREACHABLE, ExitCode.TIMED_OUT):
                raise
        await asyncio.sleep(backoff.next())


def _as_line(news: News, now: datetime) -> None:
    write_lines([Text.assemble(f"{now:%H:%M:%S}Z  ", (news.machine_id, "bold"), "  ", *_said(news, now))])


def _said(news: News, now: datetime) -> Sequence[str | tuple[str, str]]:
    word = _word(state_of(news.machine, now))
    match news.kind:
        case NewsKind.DELETED:
            return ["deleted"]
        case NewsKind.HEARTBEAT:
            return ["heard from, ", word]
        case NewsKind.APPEARED:
            return ["is new, ", word]
        case NewsKind.PRESENT:
            return [word]
        case NewsKind.CHANGED:
            return [*_formerly(news, now, word), word, *_further(news)]


def _formerly(news: News, now: datetime, word: tuple[str, str]) -> list[str | tuple[str, str]]:
    """The state before, when it was another one."""
    before = None if news.before is None else _word(state_of(news.before, now))
    return [] if before is None or before == word else [before, " → "]


def _word(state: State) -> tuple[str, str]:
    return printable(str(state)), state.style


def _further(news: News) -> Iterator[str]:
    """What the state does not tell."""
    for item in news.differences:
        if item.kind not in _TOLD_BY_STATE:
            yield printable(
                f"  [{item.kind}: {in_words(item.kind, item.before)} → {in_words(item.kind, item.after)}]"
            )


def _as_json(news: News, now: datetime) -> None:
    write_json(
        {
            "at": format_time(now),
            "kind": news.kind.value,
            "id": news.machine_id,
            "changes": [
                {"kind": item.kind.value, "before": item.before, "after": item.after}
                for item in news.differences
            ],
            "machine": news.document,
        },
        compact=True,
    )
