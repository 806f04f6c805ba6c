"""A new configuration is taken when it is good; a bad one takes nothing away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.reload import Configuration
from pipeline.errors import Misconfigured

DEADLINE_S = 60


class File:
    """A file whose content is what the test says it is."""

    def __init__(self, path: Path, *controllers: Controller) -> None:
        self.path = path
        self.content: Inventory | None = None
        self.reads = asyncio.Semaphore(0)
        self._loop = asyncio.get_running_loop()
        self.write(*controllers)
        self.configuration = Configuration(path, self.read)
        self.taken: list[Inventory] = []

    def write(self, *controllers: Controller) -> None:
        self._put(Inventory(controllers))

    def spoil(self) -> None:
        self._put(None)

    def read(self, _path: Path) -> Inventory:
        self._loop.call_soon_threadsafe(self.reads.release)
        if self.content is None:
            raise Misconfigured("line 1: no JSON5")
        return self.content

    def _put(self, content: Inventory | None) -> None:
        self.content = content
        text = self.path.read_text() if self.path.exists() else ""
        self.path.write_text(text + "x")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        await self.reads.acquire()
        watching = asyncio.create_task(self.configuration.watch(timedelta(milliseconds=5), self.taken.append))
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def is_read(self) -> None:
        """Once more, and what comes of it is decided."""
        await self.reads.acquire()
        self.configuration.reload.set()
        await self.reads.acquire()


def controller(label: str, *, problem: str = "", machine_id: str = "m1") -> Controller:
    return Controller("fake", label, {machine_id: "1"}, problem=problem)


def labels(inventory: Inventory) -> list[str]:
    return [each.label for each in inventory.controllers]


@pytest.fixture
async def file(tmp_path: Path) -> File:
    return File(tmp_path / "powercycle.json5", controller("a"))


async def test_a_changed_file_is_taken(file: File) -> None:
    async with file.watched():
        file.write(controller("a"), controller("b", machine_id="m2"))
        await file.is_read()

    assert [labels(each) for each in file.taken] == [["a", "b"]]


async def test_a_file_that_cannot_be_read_changes_nothing(
    file: File, capsys: pytest.CaptureFixture[str]
) -> None:
    async with file.watched():
        file.spoil()
        await file.is_read()
        assert labels(file.configuration.inventory) == ["a"]
        assert "no JSON5" in "".join(capsys.readouterr())
        file.write(controller("b"))
        await file.is_read()

    assert [labels(each) for each in file.taken] == [["b"]]


async def test_a_file_that_spoils_a_controller_that_works_changes_nothing(
    file: File, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's power hangs on a slip of the pen while the agent runs."""
    async with file.watched():
        file.write(controller("a", problem="line 3: fake/a: invalid port"), controller("b", machine_id="m2"))
        await file.is_read()

    assert file.taken == []
    assert file.configuration.inventory.controllers[0].problem == ""
    assert "line 3: fake/a: invalid port" in "".join(capsys.readouterr())


async def test_a_controller_that_never_worked_keeps_no_other_change_out(file: File) -> None:
    """It is reported as in error, where people see it."""
    async with file.watched():
        file.write(controller("a"), controller("b", machine_id="m2", problem="no"))
        await file.is_read()
        file.write(controller("b", machine_id="m2", problem="still not"), controller("c", machine_id="m3"))
        await file.is_read()

    assert [labels(each) for each in file.taken] == [["a", "b"], ["b", "c"]]
