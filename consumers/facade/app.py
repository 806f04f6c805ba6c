"""The web application: routes, what they find, and the work behind them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final, Protocol

from aiohttp import web

from consumers.facade.actions import Actions
from consumers.facade.auth import Authenticator
from consumers.facade.fleet import Fleet
from consumers.facade.intake import Intake
from consumers.facade.keys import (
    ACTIONS,
    AUTH,
    BROKER,
    CLOCK,
    FLEET,
    HEALING_STORE,
    INTAKE,
    LEASES,
    METRICS,
    POWER,
    POWER_RESULTS,
    POWER_WATCH,
    POWERED_STORE,
    PROGRESS,
    SETTINGS,
    SILENCES,
    STATISTICS,
    STORE,
    STREAMS,
)
from consumers.facade.machine_metrics import MachineMetrics
from consumers.facade.power import PowerActions
from consumers.facade.power_results import PowerResults
from consumers.facade.power_watch import PowerWatch
from consumers.facade.progress import tell_progress
from consumers.facade.routes import (
    docs,
    events,
    fleet_v1,
    healing_v1,
    health,
    legacy,
    legacy_power,
    machines_v1,
    pages,
    power_v1,
    silences_v1,
)
from consumers.facade.routing import add_routes, gate
from consumers.facade.settings import FacadeSettings
from consumers.facade.statistics import Statistics
from consumers.facade.streams import Streams
from pipeline import metrics
from pipeline.broker.protocol import Broker
from pipeline.clock import Clock
from pipeline.service import together
from pipeline.store.healing import HealingStore
from pipeline.store.power_protocol import Silences
from pipeline.store.protocol import Leases, ProgressLog

BACKGROUND: Final = web.AppKey("background", asyncio.Task[None])
"""The work behind the routes. Done before the application is: it failed, and so has the façade."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""On every answer that does not say otherwise."""


class FacadeStore(HealingStore, Silences, Leases, ProgressLog, Protocol):
    """What the façade needs of the store."""


def make_app(
    *, store: FacadeStore, broker: Broker, auth: Authenticator, settings: FacadeSettings, clock: Clock
) -> web.Application:
    """An application that runs as it is: its work behind the routes starts and ends with it."""
    app = web.Application(middlewares=[gate(auth)], client_max_size=settings.max_event_bytes)
    fleet = Fleet(settings)
    app[STORE], app[BROKER], app[AUTH], app[SETTINGS] = store, broker, auth, settings
    app[PROGRESS], app[CLOCK] = store, clock
    app[HEALING_STORE] = store
    app[POWERED_STORE], app[LEASES], app[SILENCES] = store, store, store
    app[FLEET] = fleet
    app[STATISTICS] = Statistics(settings)
    app[STREAMS] = Streams(fleet, settings)
    app[ACTIONS] = Actions(store, fleet, clock)
    app[INTAKE] = Intake(broker)
    app[POWER] = PowerActions(store, fleet, clock)
    app[POWER_RESULTS] = PowerResults(broker)
    app[POWER_WATCH] = PowerWatch(settings)
    app[METRICS] = metrics.registry_of("facade")
    if settings.machine_metrics:
        app[METRICS].register(MachineMetrics(fleet, clock))
    _add_routes(app)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_end_streams)

    async def background(app: web.Application) -> AsyncIterator[None]:
        stop = asyncio.Event()
        app[BACKGROUND] = asyncio.create_task(
            together(
                fleet.run(store, broker, stop),
                app[STREAMS].run(),
                app[POWER_WATCH].run(broker, stop),
                app[STATISTICS].run(broker, clock, stop),
                tell_progress(
                    store,
                    broker,
                    clock,
                    settings,
                    instance=f"{socket.gethostname()}:{settings.port}",
                    stop=stop,
                ),
            )
        )
        yield
        stop.set()
        await app[BACKGROUND]

    app.cleanup_ctx.append(background)
    return app


def _add_routes(app: web.Application) -> None:
    modules = (machines_v1, power_v1, healing_v1, silences_v1, fleet_v1, events, health, legacy, legacy_power)
    described = [route for module in modules for route in module.ROUTES]
    routes = [*described, *docs.routes(described), *pages.routes()]
    add_routes(app, routes, app[AUTH], app[SETTINGS])


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "labkeeper"  # and not which versions of what


async def _end_streams(app: web.Application) -> None:
    app[STREAMS].close()
    app[POWER_WATCH].close()
