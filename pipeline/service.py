"""How a process lives: it starts, serves until it is asked to stop, drains, and ends with exit code 0.

It is asked to stop by SIGTERM or SIGINT, or by the end of its lifeline: a pipe whose other end is held by the process that
started it (`labkeeper up`), so that nothing keeps running when that one dies, however it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from prometheus_client import start_http_server

from pipeline import logs
from pipeline.errors import Misconfigured
from pipeline.settings import ServiceSettings

LIFELINE_VARIABLE: Final = "LABKEEPER_LIFELINE_FD"
"""Environment variable with the number of the inherited pipe's reading end."""

Work = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set, then finishes what is under way and returns."""


def serve(name: str, work: Work, settings: ServiceSettings) -> None:
    """Run `work` as this process's one job. Raises what it raises."""
    logs.configure(name, log_format=settings.log_format, level=settings.log_level)
    if settings.metrics_port is not None:
        try:
            start_http_server(settings.metrics_port, addr=settings.metrics_host)
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
        loop.add_signal_handler(number, stop.set)
    _watch_lifeline(loop, stop)
    log.info("started", process=name, pid=os.getpid())
    await work(stop)
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
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()
