"""How a process lives: it starts, serves until it is asked to stop, drains, and ends with exit code 0.

It is asked to stop by SIGTERM or SIGINT, or by the end of its lifeline: a pipe whose other end is held by the process that
started it (`labkeeper up`), so that nothing keeps running when that one dies, however it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app, start_http_server

from pipeline import logs, metrics
from pipeline.errors import Misconfigured, Retryable
from pipeline.retry import Backoff
from pipeline.settings import ServiceSettings

LIFELINE_VARIABLE: Final = "LABKEEPER_LIFELINE_FD"
"""Environment variable with the number of the inherited pipe's reading end."""

HANGS_AFTER_S: Final = 30.0
"""An event loop that has not turned for so long is held up for good. Nothing of ours keeps it for as much as a second or two."""

Result = TypeVar("Result")

Work = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set, then finishes what is under way and returns."""


class Pulse:
    """Tells other threads whether the event loop still turns. The loop beats; whoever wants to know asks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    async def beat(self, period_s: float = 1.0) -> None:
        """Until cancelled."""
        while True:
            self._last = self._clock()
            await asyncio.sleep(period_s)

    def silence(self) -> float:
        """Seconds since the loop last turned."""
        return self._clock() - self._last


def serve(name: str, work: Work, settings: ServiceSettings) -> None:
    """Run `work` as this process's one job. Raises what it raises.

    On the metrics port, a thread of its own answers to Prometheus, and at /healthz to whoever restarts what hangs.
    """
    logs.configure(name, log_format=settings.log_format, level=settings.log_level)
    pulse = Pulse()
    metrics.LOOP_SILENCE.set_function(pulse.silence)
    if settings.metrics_port is not None:
        _serve_metrics(name, settings.metrics_host, settings.metrics_port, pulse)
    asyncio.run(_until_stopped(name, work, pulse))


def _serve_metrics(name: str, host: str, port: int, pulse: Pulse) -> None:
    registry = metrics.registry_of(name)
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise Misconfigured(
            f"cannot serve metrics on {host}:{port} ({error.strerror}): choose another --metrics-port"
        ) from error
    server.set_app(with_health(make_wsgi_app(registry), pulse))


def with_health(rest: WSGIApplication, pulse: Pulse) -> WSGIApplication:
    """Answer /healthz: 200, or 503 once the event loop hangs. All else is for `rest`."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            return rest(environ, start)
        silence = pulse.silence()
        status, text = HTTPStatus.OK, "ok"
        if silence > HANGS_AFTER_S:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            text = f"the event loop has not turned for {silence:.0f} s"
        body = f"{text}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start(f"{status.value} {status.phrase}", headers)
        return [body]

    return answer


async def _until_stopped(name: str, work: Work, pulse: Pulse) -> None:
    log = logs.get_logger()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # not loop.add_signal_handler: a monitor also runs on Windows
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(stop.set))
    _watch_lifeline(loop, stop)
    log.info("started", process=name, pid=os.getpid())
    beating = asyncio.create_task(pulse.beat())
    try:
        await work(stop)
    finally:
        beating.cancel()
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
