"""A whole lab on one computer: PostgreSQL, its schema, the processes; from the first check to the last process's end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from infra.servers.postgres import PostgresServer, running_dsn
from infra.servers.postgres_home import PostgresFailed
from pipeline.command import CommandFailed
from pipeline.service import wait_for
from pipeline.store.migrations import migrate, our_migrations
from pipeline.store.transaction import Database
from producers.labkeeper.premises import Premises, check_port, occupied
from producers.labkeeper.roles import STOP_ORDER, LabSettings, Role, helpers, pillars
from producers.labkeeper.screen import Screen
from producers.labkeeper.supervisor import Supervisor

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ASK_EVERY_S: Final = 0.05
_ANSWER_S: Final = 5.0
_PAGE_S: Final = 60.0
_LOOK_AFTER_DATABASE_S: Final = 2.0


def run_lab(settings: LabSettings, screen: Screen) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP. Raises `CommandFailed` when that cannot be, with everything ended again."""
    with occupied(settings.data, url=settings.url) as premises:
        check_port(settings.host, settings.port, patient=premises.crashed_predecessor)
        asyncio.run(_Lab(settings, premises, screen).run())
        screen.say("Stopped.")


class _Lab:
    def __init__(self, settings: LabSettings, premises: Premises, screen: Screen) -> None:
        self._settings = settings
        self._premises = premises
        self._screen = screen
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Everything, until told to stop."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._asked_to_stop)
        self._screen.say(f"Labkeeper, in {self._premises.data}")  # from here on it ends in good order
        try:
            async with self._database() as url:
                if not self._stop.is_set():
                    await self._schema(url)
                if not self._stop.is_set():
                    await self._serve(url)
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)  # it has ended, and only says so yet

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
            return
        self._screen.say("\nStopping; Ctrl-C again hurries.")
        self._stop.set()

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[str]:
        """The embedded PostgreSQL, running. It ends last."""
        keeper = _DatabaseKeeper(self._premises, self._screen, self._stop)
        url = await keeper.start()
        keeping = asyncio.create_task(keeper.keep_running())
        try:
            yield url
        finally:
            self._stop.set()
            await keeping
            await keeper.stop()

    async def _schema(self, url: str) -> None:
        version, applied = await asyncio.to_thread(_migrated, url)
        self._screen.done(f"PostgreSQL {version} ready")
        known = len(our_migrations())
        self._screen.done(
            f"schema brought up to date ({len(applied)} of {known} migrations were new)"
            if applied
            else f"schema up to date ({known} migrations)"
        )

    async def _serve(self, url: str) -> None:
        supervisor = Supervisor(self._premises, self._screen, self._hurry)
        stopped = asyncio.create_task(self._stop.wait())
        page = asyncio.create_task(self._page_answers())
        try:
            supervisor.start(pillars(self._settings, url))
            await supervisor.watch(stopped, page)
            if not self._stop.is_set():
                supervisor.settle()
                self._tell_page(answers=page.result())
                supervisor.start(self._helpers(url))
                self._tell_rest()
                await supervisor.watch(stopped)
        finally:
            page.cancel()
            stopped.cancel()
            await supervisor.stop(STOP_ORDER)

    def _helpers(self, url: str) -> tuple[Role, ...]:
        if self._settings.demo:
            self._premises.prepare_demo_power()
        return helpers(
            self._settings, url, monitor_state=self._premises.monitor, demo_power=self._premises.demo_power
        )

    async def _page_answers(self) -> bool:
        """Wait until the façade is ready; False when that takes too long."""
        try:
            async with asyncio.timeout(_PAGE_S):
                while not await _is_ready(self._settings):
                    if await wait_for(self._stop, _ASK_EVERY_S):
                        return False
        except TimeoutError:
            return False
        return True

    def _tell_page(self, *, answers: bool) -> None:
        if answers:
            self._screen.done(f"page and API at {self._settings.url}")
        else:
            self._screen.complain(f"the page does not answer yet; see {self._premises.log_of('facade')}")

    def _tell_rest(self) -> None:
        if self._settings.monitor:
            self._screen.done("this computer reports as a machine")
        if self._settings.demo:
            self._screen.done(
                f"{self._settings.demo} simulated machines join it, on power strips of their own"
            )
        if self._settings.power_config is not None:
            self._screen.done(f"an agent drives the power controllers of {self._settings.power_config}")
        self._screen.done(f"metrics of each process: see {self._premises.metrics_targets.name}")
        self._screen.say(f"Up. Logs are in {self._premises.log_of('').parent}. Ctrl-C stops it.")


class _DatabaseKeeper:
    """The PostgreSQL server, started again if it should die."""

    def __init__(self, premises: Premises, screen: Screen, stop: asyncio.Event) -> None:
        self._folder = premises.database
        self._screen = screen
        self._stop = stop
        self._server: PostgresServer | None = None

    async def start(self) -> str:
        """Start it, or take over one that was left behind; return its address. Raises `CommandFailed`."""
        try:
            self._server = await asyncio.to_thread(PostgresServer.start, self._folder)
        except PostgresFailed as error:
            raise CommandFailed(str(error)) from error
        return self._server.dsn

    async def keep_running(self) -> None:
        """Look after it until we stop."""
        while not await wait_for(self._stop, _LOOK_AFTER_DATABASE_S):
            if await asyncio.to_thread(running_dsn, self._folder) is None and not self._stop.is_set():
                self._screen.complain("PostgreSQL ended: starting it again")
                await self._restart()

    async def _restart(self) -> None:
        url = self._server.dsn if self._server is not None else ""
        await self.stop()
        try:
            again = await self.start()
        except CommandFailed as error:
            self._screen.complain(str(error))
            self._stop.set()
            return
        if again != url:  # a socket in a new temporary folder, of which the processes do not know
            self._screen.complain("PostgreSQL has a new address: start this again")
            self._stop.set()

    async def stop(self) -> None:
        """End it."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)


def _migrated(url: str) -> tuple[str, list[str]]:
    """The server's version, and the migrations that were applied."""
    database = Database(url, threads=1)
    try:
        [(version,)] = database.query(lambda session: session.fetch("SHOW server_version"))
    finally:
        database.close_now()
    return str(version).split()[0], list(migrate(url))


async def _is_ready(settings: LabSettings) -> bool:
    """Ask the façade. By hand: an HTTP library would take longer to load than the answer takes."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(settings.local_host, settings.port)
            try:
                writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
