"""What handlers find in the application."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from consumers.facade.actions import Actions
from consumers.facade.auth import Authenticator
from consumers.facade.fleet import Fleet
from consumers.facade.intake import Intake
from consumers.facade.power import PowerActions, PoweredStore
from consumers.facade.power_results import PowerResults
from consumers.facade.power_watch import PowerWatch
from consumers.facade.settings import FacadeSettings
from consumers.facade.statistics import Statistics
from consumers.facade.streams import Streams
from pipeline.broker.protocol import Broker
from pipeline.clock import Clock
from pipeline.store.healing import HealingStore
from pipeline.store.power_protocol import Silences
from pipeline.store.protocol import Leases, ProgressLog, Store

STORE: Final = web.AppKey("store", Store)
PROGRESS: Final = web.AppKey("progress", ProgressLog)
POWERED_STORE: Final = web.AppKey("powered_store", PoweredStore)
HEALING_STORE: Final = web.AppKey("healing_store", HealingStore)
LEASES: Final = web.AppKey("leases", Leases)
SILENCES: Final = web.AppKey("silences", Silences)
CLOCK: Final = web.AppKey("clock", Clock)
BROKER: Final = web.AppKey("broker", Broker)
AUTH: Final = web.AppKey("auth", Authenticator)
SETTINGS: Final = web.AppKey("settings", FacadeSettings)
ACTIONS: Final = web.AppKey("actions", Actions)
POWER: Final = web.AppKey("power", PowerActions)
POWER_RESULTS: Final = web.AppKey("power_results", PowerResults)
POWER_WATCH: Final = web.AppKey("power_watch", PowerWatch)
INTAKE: Final = web.AppKey("intake", Intake)
FLEET: Final = web.AppKey("fleet", Fleet)
STATISTICS: Final = web.AppKey("statistics", Statistics)
STREAMS: Final = web.AppKey("streams", Streams)
METRICS: Final = web.AppKey("metrics", CollectorRegistry)
