"""What the Swarming bot on this host asks: paths, methods and bodies are those its `bot_config.py` calls.

Unlike the original it listens on loopback only: whoever may call it may reboot the device.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from pipeline import logs
from pipeline.errors import Misconfigured
from pipeline.metrics import BOT_REQUESTS, BOT_REQUESTS_SUCCEEDED
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.interrogation import TaskState

_REQUEST_TIME_S: Final = 300
_BODY_LIMIT: Final = 4 * 1024 * 1024
_SETTINGS: Final = {"caches": {"isolated": {"size": 8 * 1024**3}}}
_dimensions = TypeAdapter(dict[str, list[str] | None])


class BotServer:
    """Answers the Swarming bot."""

    def __init__(
        self,
        machine_id: str,
        belief: Belief,
        tasks: TaskState,
        *,
        rack: str,
        on_task_end: Callable[[], None],
    ) -> None:
        """`rack` is told to Swarming; it may be empty. `on_task_end` must return at once."""
        self._machine_id = machine_id
        self._belief = belief
        self._tasks = tasks
        self._rack = rack
        self._on_task_end = on_task_end

    def app(self) -> web.Application:
        """The application, to be served on loopback."""
        app = web.Application(client_max_size=_BODY_LIMIT, middlewares=[_bounded])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_post("/get_state", self._get_state)
        app.router.add_get("/get_settings", self._get_settings)
        app.router.add_post("/get_dimensions", self._get_dimensions)
        app.router.add_get("/on_before_task", self._on_before_task)
        app.router.add_get("/on_after_task", self._on_after_task)
        return app

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context lasts; yields the port, chosen freely when 0. Raises `Misconfigured`."""
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=2)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise Misconfigured(
                    f"cannot listen on {host}:{port} ({error.strerror}): choose another --port, or --port off"
                ) from error
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:  # noqa: ARG002  # aiohttp's signature
        return web.Response()

    async def _get_state(self, request: web.Request) -> web.Response:
        self._count("get_state")
        try:
            state = await request.json()
        except (ValueError, RecursionError):
            state = None
        if not isinstance(state, dict):
            return _failure("Failed to decode settings: expected a JSON object")
        state.pop("quarantined", None)
        state.pop("maintenance", None)
        state["sk_rack"] = self._rack
        return self._answer("get_state", state)

    async def _get_settings(self, request: web.Request) -> web.Response:  # noqa: ARG002  # aiohttp's signature
        self._count("get_settings")
        return self._answer("get_settings", _SETTINGS)

    async def _get_dimensions(self, request: web.Request) -> web.Response:
        self._count("get_dimensions")
        try:
            dimensions = _dimensions.validate_json(await request.read())
        except ValidationError:
            return _failure("Failed to decode dimensions: expected a JSON object of lists of texts")
        believed = self._belief.current
        for name, values in ((believed.dimensions or {}) if believed else {}).items():
            if values:
                dimensions[name] = values
            else:
                logs.get_logger().warning("empty dimension is not reported", dimension=name)
        if not dimensions:
            return _failure("No valid Dimensions to report\n{}")  # the original writes the empty object, too
        return self._answer("get_dimensions", dimensions)

    async def _on_before_task(self, request: web.Request) -> web.Response:  # noqa: ARG002  # aiohttp's signature
        self._tasks.running = True
        return self._answer("on_before_task")

    async def _on_after_task(self, request: web.Request) -> web.Response:  # noqa: ARG002  # aiohttp's signature
        self._tasks.running = False
        self._on_task_end()
        return self._answer("on_after_task")

    def _count(self, name: str) -> None:
        BOT_REQUESTS[name].labels(self._machine_id).inc()

    def _answer(self, name: str, content: Any = None) -> web.Response:
        BOT_REQUESTS_SUCCEEDED[name].labels(self._machine_id).inc()
        if content is None:
            return web.Response()
        return web.json_response(text=json.dumps(content) + "\n")


@web.middleware
async def _bounded(request: web.Request, handler: Any) -> web.StreamResponse:
    async with asyncio.timeout(_REQUEST_TIME_S):
        response: web.StreamResponse = await handler(request)
    return response


def _failure(reason: str) -> web.Response:
    return web.Response(status=500, text=reason + "\n")
