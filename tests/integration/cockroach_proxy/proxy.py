"""The proxy itself: listens on loopback, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, Self

from psycopg2.extensions import make_dsn, parse_dsn

from tests.integration.cockroach_proxy.conversation import Conversation, Stream
from tests.integration.cockroach_proxy.faults import Fault, Peace, Plan, Statement, is_possible

_SERVER_PORT: Final = 5432
_HOST: Final = "127.0.0.1"


class CockroachProxy:
    """Stands in front of PostgreSQL and fails like CockroachDB. Use `in_front_of`."""

    def __init__(self, dsn: str, plan: Plan, *, pause_s: float, down_s: float) -> None:
        self.plan = plan
        """Who decides what goes wrong; may be exchanged at any time."""
        self.injected: Counter[Fault] = Counter()
        self.statements = 0
        """All that came through, and attempts to connect."""
        self._target = parse_dsn(dsn)
        self._pause_s = pause_s
        self._down_s = down_s
        self._conversations: set[Conversation] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mistakes: list[BaseException] = []
        """Of the proxy's own."""
        self._place = _reserved()
        self.dsn = make_dsn(dsn, host=_HOST, port=self._place.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._listener: asyncio.Server | None = None

    @classmethod
    @contextlib.contextmanager
    def in_front_of(
        cls, dsn: str, plan: Plan | None = None, *, pause_s: float = 0.02, down_s: float = 0.05
    ) -> Iterator[Self]:
        """A running proxy. `pause_s`: what slow or late things take; `down_s`: how long a restart takes."""
        proxy = cls(dsn, Peace() if plan is None else plan, pause_s=pause_s, down_s=down_s)
        thread = threading.Thread(target=proxy._serve, name="cockroach-proxy")
        thread.start()
        try:
            assert proxy._up.wait(10)
            yield proxy
        finally:
            proxy._loop.call_soon_threadsafe(proxy._stop.set)
            thread.join(10)
            proxy._place.close()
        assert not thread.is_alive()
        assert not proxy._mistakes

    def report(self) -> str:
        """What was injected, one line a kind."""
        total = self.injected.total()
        lines = [f"{total} faults in {self.statements} statements ({total / max(1, self.statements):.0%})"]
        lines += [f"{count:6} {fault.name}: {fault.value}" for fault, count in self.injected.most_common()]
        return "\n".join(lines)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        await self._listen()
        self._up.set()
        await self._stop.wait()
        await self._go_down()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._accept, *self._place.getsockname(), reuse_port=True, backlog=100
        )

    async def _go_down(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for conversation in list(self._conversations):
            conversation.reset()

    async def _restart(self) -> None:
        if self._listener is None:
            return  # it is down already
        await self._go_down()
        await asyncio.sleep(self._down_s)
        if not self._stop.is_set():
            await self._listen()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(self._converse(Stream(reader, writer)))

    async def _converse(self, client: Stream) -> None:
        try:
            server = await self._connected()
        except OSError:
            client.close()
            return
        conversation = Conversation(
            client, server, choose=self._choose, share=self._share, pause_s=self._pause_s
        )
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._mistakes.append(error)

    async def _connected(self) -> Stream:
        host = self._target.get("host", "/var/run/postgresql")
        port = int(self._target.get("port", _SERVER_PORT))
        if host.startswith("/"):
            return Stream(*await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}")))
        return Stream(*await asyncio.open_connection(host, port))

    def _choose(self, statement: Statement) -> Fault | None:
        self.statements += 1
        fault = self.plan.choose(statement)
        if fault is None:
            return None
        assert is_possible(fault, statement), f"{fault} cannot befall {statement}"
        self.injected[fault] += 1
        if fault is Fault.RESTART:
            self._begin(self._restart())
        return fault

    def _share(self) -> float:
        return self.plan.share()


def _reserved() -> socket.socket:
    """Holds a free port without listening on it: connections are refused, and nobody else gets it."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind((_HOST, 0))
    return place
