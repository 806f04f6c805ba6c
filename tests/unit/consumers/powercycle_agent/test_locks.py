"""One process at a time drives a controller."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.powercycle_agent.locks import ControllerBusy, Locks
from pipeline.errors import Misconfigured

HOLDER = """
import asyncio, sys
from pathlib import Path
from consumers.powercycle_agent.locks import Locks

async def hold():
    async with Locks(Path(sys.argv[1])).hold("fake/rack4"):
        print("mine", flush=True)
        sys.stdin.readline()

asyncio.run(hold())
"""


async def test_a_controller_is_held_by_one_at_a_time_and_others_wait(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    async with locks.hold("fake/rack4"):
        with pytest.raises(ControllerBusy, match=r"fake/rack4 \(process \d+\)"):
            async with locks.hold("fake/rack4"):
                pass
        async with locks.hold("fake/rack5"):
            pass
        waiting = asyncio.create_task(_take(locks))
        await asyncio.sleep(0)
    await waiting


async def _take(locks: Locks) -> None:
    async with locks.hold("fake/rack4", patience_s=5):
        pass


@pytest.mark.integration
async def test_a_lock_is_free_once_its_process_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: ASYNC220  # quickly done
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"mine\n"
        locks = Locks(tmp_path)
        with pytest.raises(ControllerBusy, match=str(holder.pid)):
            async with locks.hold("fake/rack4"):
                pass
        holder.kill()
        async with locks.hold("fake/rack4", patience_s=10):
            pass


@pytest.mark.parametrize("name", ["fake/../../etc", "fake/" + "ü" * 500, "fake/a b\n"])
async def test_any_label_makes_a_file_in_its_folder(tmp_path: Path, name: str) -> None:
    async with Locks(tmp_path / "locks").hold(name):
        assert len(list((tmp_path / "locks").iterdir())) == 1


async def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("consumers.powercycle_agent.locks.fcntl.flock", flock)
    with pytest.raises(Misconfigured, match="No locks available"):
        async with Locks(tmp_path).hold("fake/rack4"):
            pass


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("in the way")
    with pytest.raises(Misconfigured, match="--state-dir"):
        async with Locks(tmp_path / "locks").hold("fake/rack4"):
            pass
