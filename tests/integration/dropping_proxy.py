"""A proxy in front of PostgreSQL that cuts connections at the worst moment: right after COMMIT went to the server."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from psycopg2.extensions import make_dsn, parse_dsn

_PORT: Final = 5432


class DroppingProxy:
    """Passes bytes on between clients and the server behind `dsn`."""

    def __init__(self, dsn: str, folder: str) -> None:
        target = parse_dsn(dsn)
        host, port = target.get("host", "/var/run/postgresql"), int(target.get("port", _PORT))
        self._server: str | tuple[str, int] = (
            str(Path(host) / f".s.PGSQL.{port}") if host.startswith("/") else (host, port)
        )
        self.dsn = make_dsn(dsn, host=folder, port=_PORT, sslmode="disable", gssencmode="disable")
        self.cuts_left = 0
        """How many of the next COMMITs lose their connection."""
        self.cuts_made = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(folder) / f".s.PGSQL.{_PORT}"))
        self._listener.listen()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]

    @classmethod
    @contextlib.contextmanager
    def in_front_of(cls, dsn: str) -> Iterator[Self]:
        with tempfile.TemporaryDirectory() as folder:
            proxy = cls(dsn, folder)
            proxy._threads[0].start()
            try:
                yield proxy
            finally:
                proxy._stop()

    def _stop(self) -> None:
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
            server.connect(self._server)
            self._sockets += [client, server]
            for source, target, cuts in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pass_on, args=(source, target, cuts))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, cuts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                commits = cuts and self.cuts_left > 0 and data.startswith(b"Q") and b"COMMIT\0" in data
                if commits:
                    self.cuts_left -= 1
                    self.cuts_made += 1
                    with contextlib.suppress(OSError):
                        source.shutdown(socket.SHUT_RDWR)  # the client learns nothing of what comes
                target.sendall(data)
                if commits:
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_WR if each is target else socket.SHUT_RDWR)
