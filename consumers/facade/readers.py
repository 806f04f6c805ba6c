"""Who reads one kind of streams: lets readers in up to a limit, counts them, and parts with them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from aiohttp import web

from consumers.facade.errors import unavailable
from consumers.facade.settings import FacadeSettings
from consumers.facade.sse import Reader, StreamKind, TooSlow, open_stream
from pipeline import logs, metrics

_PATIENCE_AT_START_S: Final = 10.0
"""How long a stream waits until we are ready. A browser takes a refusal as final, so it is better to wait."""

log = logs.get_logger()


class Readers:
    """The readers that are served now."""

    def __init__(self, settings: FacadeSettings, *, most: int) -> None:
        self._settings = settings
        self._most = most
        self._readers: set[Reader] = set()
        self.closing = False
        """Nobody is let in any more, and those who are here shall go."""

    def all(self) -> list[Reader]:
        """Everybody, now."""
        return list(self._readers)

    def gone(self) -> list[Reader]:
        """Those who do not read any more."""
        return [reader for reader in self._readers if reader.gone]

    async def open(self, request: web.Request, ready: asyncio.Event, otherwise: str) -> web.StreamResponse:
        """Begin a stream once we are `ready`. Raises `Refusal`; `otherwise` says what we wait for in vain."""
        if self.closing:
            raise unavailable("the server is stopping")
        if len(self._readers) >= self._most:
            raise unavailable("too many open streams")
        try:
            async with asyncio.timeout(_PATIENCE_AT_START_S):
                await ready.wait()
        except TimeoutError:
            raise unavailable(otherwise) from None
        return await open_stream(request)

    @contextmanager
    def serving(self, request: web.Request, kind: StreamKind) -> Iterator[Reader]:
        """Count the reader while it is served. Ends quietly when it goes, or is cut off because it is slow."""
        reader = Reader(request, self._settings, kind)
        self._readers.add(reader)
        metrics.SSE_CLIENTS.labels(kind).inc()
        try:
            with suppress(ConnectionError):
                yield reader
        except TooSlow:
            self.drop(reader, request.remote)
        finally:
            self._readers.discard(reader)
            metrics.SSE_CLIENTS.labels(kind).dec()

    def drop(self, reader: Reader, peer: str | None) -> None:
        """Cut a reader off that does not keep up."""
        reader.cut_off()
        metrics.SSE_DROPPED.labels(reader.kind).inc()
        log.warning("slow_reader_dropped", stream=reader.kind.value, peer=peer)
