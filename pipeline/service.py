"""How a process lives: it starts, serves until it is asked to stop, drains, and ends with exit code 0.

It is asked to stop by SIGTERM or SIGINT, or by the end of its lifeline: a pipe whose other end is held by the process that
started it (`labkeeper up`), so that nothing keeps running when that one dies, however it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from prometheus_client import start_http_server

from pipeline import logs, metrics
from pipeline.errors import Misconfigured, Retryable
from pipeline.retry import Backoff
from pipeline.settings import ServiceSettings

LIFELINE_VARIABLE: Final = "LABKEEPER_LIFELINE_FD"
"""Environment variable with the number of the inherited pipe's reading end."""

Result = TypeVar("Result")

Work = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set, then finishes what is under way and returns."""


def serve(name: str, work: Work, settings: ServiceSettings) -> None:
    """Run `work` as this process's one job. Raises what it raises."""
    logs.configure(name, log_format=settings.log_format, level=settings.log_level)
    if settings.metrics_port is not None:
        try:
            start_http_server(
                settings.metrics_port, addr=settings.metrics_host, registry=metrics.registry_of(name)
            )
        except OSError as error:
            raise Misconfigured(
                f"cannot serve metrics on {settings.metrics_host}:{settings.metrics_port} ({error.strerror}): "
                "choose another --metrics-port"
            ) from error
    asyncio.run(_until_stopped(name, work))


async def _until_stopped(name: str, work: Work) -> None:
    log = logs.get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # not loop.add_signal_handler: a monitor also runs on Windows
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(stop.set))
    _watch_lifeline(loop, stop)
    log.info("started", process=name, pid=os.getpid())
    try:
        await work(stop)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # it is ending already, and the loop is about to close
    log.info("stopped", process=name)


def _watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    number = os.environ.get(LIFELINE_VARIABLE)
    if number is None:
        return
    lifeline = int(number)
    os.set_inheritable(lifeline, False)  # os gives it no name

    def ended() -> None:
        loop.remove_reader(lifeline)
        stop.set()

    loop.add_reader(lifeline, ended)


async def wait_for(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until `stop` is set, at most so long. True when it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts of a service until all have returned. When one fails the others are cancelled and its error is raised.

    Unlike a bare TaskGroup it raises the error itself, not a group of one: the command line shows it to a person.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(part)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group.exceptions[0].__cause__


class Abandoned(Exception):
    """The process was asked to stop while something was being retried. What was in hand will be done again."""


async def persist(attempt: Callable[[], Awaitable[Result]], trouble: str, stop: asyncio.Event) -> Result:
    """Try until it works: faults of database and broker are nobody's fault but theirs. `trouble` names the log line.

    Raises `Abandoned` when `stop` is set while it does not work.
    """
    backoff = Backoff()
    while True:
        try:
            return await attempt()
        except Retryable as error:
            pause = backoff.next()
            logs.get_logger().warning(trouble, reason=str(error), retry_in_s=round(pause, 2))
            if await wait_for(stop, pause):
                raise Abandoned(str(error)) from error
