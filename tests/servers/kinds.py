"""How a test run comes by a server of some kind: an address in the environment, a container, or one started here."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from infra.servers.errors import ServerUnavailable
from tests.servers.docker import Container, docker_answers

_NO_ENGINE: Final = "no Docker engine answers, and without one it cannot be had"


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
    surprises: list[str] = field(default_factory=list, compare=False)
    """Why another server was used than `announcement` said, for the summary of the test report."""

    def choice(self) -> str:
        """What `running` will use, in words; cheap. Raises `ServerUnavailable` when there is nothing to use."""
        if os.environ.get(self.variable):
            return f"the server in {self.variable}"
        if docker_answers():
            return f"a container of {self.container.image}"
        if self.own is None:
            raise ServerUnavailable(_NO_ENGINE)
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
        """The first of the three ways that is open. Raises `ServerUnavailable` when none is.

        An engine may answer and yet not be able to fetch an image: then it is as if there were none.
        """
        choice = self.choice()
        given = os.environ.get(self.variable)
        if given:
            yield TestServer(given, choice)
            return
        with ExitStack() as stack:
            yield (docker_answers() and self._contained(stack)) or self._own(stack)

    def _contained(self, stack: ExitStack) -> TestServer | None:
        try:
            address = stack.enter_context(self.container.running())
        except ServerUnavailable as error:
            if self.own is None:
                raise
            self.surprises.append(f"{self.name} for tests: {self.own.words}, because {error}")
            return None
        return TestServer(self.address.format(address=address), self.choice())

    def _own(self, stack: ExitStack) -> TestServer:
        if self.own is None:
            raise ServerUnavailable(_NO_ENGINE)
        self.own.check()
        folder = stack.enter_context(temporary_folder())
        return TestServer(stack.enter_context(self.own.running(folder)), self.own.words)

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
