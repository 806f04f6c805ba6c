"""Runs the application: binds, serves, and at the end stops accepting, lets requests finish, ends the streams."""

from __future__ import annotations

import asyncio
import logging
import resource
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from consumers.facade.app import BACKGROUND, FacadeStore, make_app
from consumers.facade.auth import authenticator
from consumers.facade.settings import FacadeSettings
from pipeline import logs
from pipeline.broker.protocol import Broker
from pipeline.clock import Clock
from pipeline.errors import Misconfigured

_LONGEST_LINE: Final = 16 * 1024
"""Request lines and headers up to here get an answer that says what is wrong with them."""
_FILES: Final = 65_536
"""Each open stream holds one; the usual limit is 1024."""
_KEEP_ALIVE_S: Final = 75.0
_LONGEST_REASON: Final = 200
_LINGER_S: Final = 3.0
"""How long the rest of a body that was refused is still read, so that the client gets to see why."""

log = logs.get_logger()


async def serve_facade(
    store: FacadeStore, broker: Broker, clock: Clock, settings: FacadeSettings, stop: asyncio.Event
) -> None:
    """Serve until `stop` is set. Raises `Misconfigured` when the settings or the port will not do."""
    server_logger.addFilter(_is_our_fault)
    auth = authenticator(settings)
    app = make_app(store=store, broker=broker, auth=auth, settings=settings, clock=clock)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=_KEEP_ALIVE_S,
        lingering_time=_LINGER_S,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
        shutdown_timeout=settings.shutdown_patience.total_seconds(),
    )
    _allow_many_files()
    await runner.setup()
    try:
        await _listen(runner, settings)
        for address in runner.addresses:
            log.info("listening", url=_url(address), open=auth.is_open)
        await _until_stopped(app[BACKGROUND], stop)
    finally:
        await runner.cleanup()  # raises what the work behind the routes failed with, if it did


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether aiohttp's error is worth a traceback. What is not HTTP gets a 400; strangers must not fill the log with it."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
        return True
    log.debug("not_http", reason=" ".join(str(error).split())[:_LONGEST_REASON])
    return False


async def _listen(runner: web.AppRunner, settings: FacadeSettings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    except OSError as error:
        raise Misconfigured(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
            "stop what uses it, or choose another --port"
        ) from error
    except OverflowError as error:
        raise Misconfigured(f"{settings.port} is no port: choose 1 to 65535") from error


async def _until_stopped(background: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({stopped, background}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


def _url(address: tuple[object, ...]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
