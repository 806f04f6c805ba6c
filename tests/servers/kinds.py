"""How a test run comes by a server of some kind: an address in the environment, a container, or one started here."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.servers.errors import ServerUnavailable
from tests.servers.docker import Container, docker_answers


@dataclass(frozen=True, slots=True)
class TestServer:
    """A server for tests."""

    __test__ = False

    address: str
    """As its clients want it: a URL, or `host:port`."""
    choice: str
    """What it is, for the person who reads the test report."""


@dataclass(frozen=True, slots=True)
class OwnServer:
    """The way to a server without Docker."""

    words: str
    """What it is made of."""
    check: Callable[[], None]
    """Raises `ServerUnavailable` when a program is missing; cheap."""
    running: Callable[[Path], AbstractContextManager[str]]
    """Runs it with its data in the folder; gives its address. May raise `ServerUnavailable`, too."""


@dataclass(frozen=True, slots=True)
class ServerKind:
    """One kind of server."""

    name: str
    variable: str
    """In the environment: the address of a server to use."""
    container: Container
    own: OwnServer | None
    """None: it cannot be had without Docker."""
    address: str = "{address}"
    """What clients of the container want, made of its `host:port`."""

    def choice(self) -> str:
        """What `running` will use, in words; cheap. Raises `ServerUnavailable` when there is nothing to use."""
        if os.environ.get(self.variable):
            return f"the server in {self.variable}"
        if docker_answers():
            return f"a container of {self.container.image}"
        if self.own is None:
            raise ServerUnavailable("no Docker engine answers, and without one it cannot be had")
        self.own.check()
        return self.own.words

    def announcement(self) -> str:
        """One line for the head of the test report."""
        try:
            return f"{self.name} for tests: {self.choice()}"
        except ServerUnavailable as error:
            return f"{self.name} for tests: none ({error})"

    @contextmanager
    def running(self) -> Iterator[TestServer]:
        """The first of the three ways that is open. Raises `ServerUnavailable` when none is."""
        choice = self.choice()
        given = os.environ.get(self.variable)
        if given:
            yield TestServer(given, choice)
        elif docker_answers() or self.own is None:
            with self.container.running() as address:
                yield TestServer(self.address.format(address=address), choice)
        else:
            with temporary_folder() as folder, self.own.running(folder) as address:
                yield TestServer(address, choice)

    @contextmanager
    def running_or_skip(self) -> Iterator[TestServer]:
        """As `running`; where it cannot be had, the test is skipped with the reason."""
        with self.needed(), self.running() as server:
            yield server

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Skips the test when something inside finds that this server cannot be had."""
        try:
            yield
        except ServerUnavailable as error:
            pytest.skip(f"{self._reason}{error}. Or give the address of a server in {self.variable}")

    def skipped(self, reason: str) -> bool:
        """Whether a test was skipped, with this reason, for want of such a server."""
        return self._reason in reason

    @property
    def _reason(self) -> str:
        return f"needs {self.name}: "


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path, which pytest's own have not; deleted in the end."""
    folder = Path(tempfile.mkdtemp(prefix="labkeeper-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
