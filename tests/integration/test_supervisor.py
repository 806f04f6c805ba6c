"""The supervisor of `labkeeper up`, with real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from pipeline.clock import ManualClock
from pipeline.command import CommandFailed
from pipeline.service import LIFELINE_VARIABLE
from producers.labkeeper.premises import Premises
from producers.labkeeper.roles import Role
from producers.labkeeper.screen import Screen
from producers.labkeeper.supervisor import Supervisor

pytestmark = pytest.mark.integration

GOOD = """
import os, signal, sys
from pathlib import Path
def end(*_):
    sys.stderr.write("ended in order\\n")
    Path(sys.argv[1]).open("a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
sys.stderr.write(f"ready {os.getpid()}\\n")
while True:
    signal.pause()
"""
STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stderr.write(f"ready {os.getpid()}\\n")
while True:
    signal.pause()
"""
BEREFT = f"""
import os, sys
sys.stderr.write(f"ready {{os.getpid()}}\\n")
os.read(int(os.environ["{LIFELINE_VARIABLE}"]), 1)
"""
PARENT = """
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
sys.stderr.write(f"ready {os.getpid()}\\n")
while True:
    signal.pause()
"""


class Lab:
    def __init__(self, folder: Path) -> None:
        self.ends = folder / "ends"
        self.premises = Premises(folder, crashed_predecessor=False)
        self.hurry = asyncio.Event()
        screen = Screen(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), verbose=False)
        self.supervisor = Supervisor(self.premises, screen, self.hurry)

    def role(self, name: str, code: str, *, patience_s: float = 20.0) -> Role:
        return Role(name, ("-c", code, str(self.ends), name), os.environ, patience_s)

    def log(self, name: str) -> str:
        log = self.premises.log_of(name)
        return log.read_text() if log.exists() else ""

    async def pid(self, name: str, *, start: int = 1) -> int:
        """The process id that the role told when it was started for the given time."""
        await eventually(lambda: self.log(name).count("ready") >= start)
        return int(self.log(name).split("ready ")[start].split()[0])


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    (tmp_path / "logs").mkdir()
    lab = Lab(tmp_path)
    yield lab
    if any(not task.done() for task in lab.supervisor._tasks.values()):  # the test failed
        lab.hurry.set()
        await lab.supervisor.stop(())


async def test_children_end_in_the_given_order(lab: Lab) -> None:
    lab.supervisor.start([lab.role(name, GOOD) for name in ("a", "b", "c")])
    for name in "abc":
        await lab.pid(name)
    await lab.supervisor.stop((("c",), ("a",), ("b",)))

    assert lab.ends.read_text().split() == ["c", "a", "b"]


async def test_a_child_that_is_killed_is_started_again(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.supervisor.start([lab.role("a", GOOD)])
    os.kill(await lab.pid("a"), signal.SIGKILL)
    second = await lab.pid("a", start=2)

    assert psutil.pid_exists(second)
    assert "a ended (killed by SIGKILL, ready" in capsys.readouterr().out
    await lab.supervisor.stop((("a",),))
    assert not psutil.pid_exists(second)


async def test_a_child_that_will_not_run_ends_everything_with_its_reason(lab: Lab) -> None:
    words = "import sys; sys.exit('Kaboom: no idea')"
    lab.supervisor.start([lab.role("good", GOOD), lab.role("bad", words)])

    with pytest.raises(
        CommandFailed, match=r"^bad ended 3 times right after its start: Kaboom: no idea \(its log is"
    ):
        await asyncio.wait_for(lab.supervisor.watch(), 60)
    await lab.supervisor.stop((("bad",), ("good",)))


async def test_once_the_lab_is_up_a_child_in_trouble_takes_nobody_down(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.supervisor.start(
        [lab.role("good", GOOD), lab.role("bad", "import sys; sys.exit('labkeeper: too much junk')")]
    )
    lab.supervisor.settle()
    good = await lab.pid("good")

    printed = ""
    async with asyncio.timeout(60):
        while printed.count("bad ended (exit code 1, too much junk)") < 4:
            await asyncio.sleep(0.05)
            printed += capsys.readouterr().out

    assert psutil.pid_exists(good)
    await lab.supervisor.stop((("bad",), ("good",)))


async def test_a_mistake_that_is_explained_is_not_tried_again(lab: Lab) -> None:
    lab.supervisor.start([lab.role("bad", "import sys; sys.exit('labkeeper: choose another port')")])

    with pytest.raises(CommandFailed, match=r"^bad ended right after its start: choose another port"):
        await asyncio.wait_for(lab.supervisor.watch(), 60)
    await lab.supervisor.stop((("bad",),))


async def test_wrong_usage_is_not_tried_again(lab: Lab) -> None:
    lab.supervisor.start([lab.role("bad", "import sys; print('no such option'); sys.exit(2)")])

    with pytest.raises(CommandFailed, match=r"^bad ended right after its start: no such option"):
        await asyncio.wait_for(lab.supervisor.watch(), 60)
    await lab.supervisor.stop((("bad",),))


async def test_a_child_that_does_not_end_is_killed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.supervisor.start([lab.role("a", STUBBORN, patience_s=0.2)])
    pid = await lab.pid("a")
    await lab.supervisor.stop((("a",),))

    assert not psutil.pid_exists(pid)
    assert "a does not end: killing it" in capsys.readouterr().out


async def test_in_a_hurry_nobody_is_given_much_time(lab: Lab) -> None:
    lab.supervisor.start([lab.role("a", STUBBORN, patience_s=3600)])
    pid = await lab.pid("a")
    lab.hurry.set()
    await asyncio.wait_for(lab.supervisor.stop((("a",),)), 30)

    assert not psutil.pid_exists(pid)


async def test_a_child_is_out_of_reach_of_ctrl_c(lab: Lab) -> None:
    lab.supervisor.start([lab.role("a", GOOD)])
    pid = await lab.pid("a")

    assert os.getpgid(pid) == os.getsid(pid) == pid
    await lab.supervisor.stop((("a",),))


async def test_what_a_child_has_started_ends_with_it(lab: Lab) -> None:
    lab.supervisor.start([lab.role("a", PARENT)])
    pid = await lab.pid("a")
    grandchildren = psutil.Process(pid).children()
    await lab.supervisor.stop((("a",),))

    assert len(grandchildren) == 1
    await eventually(lambda: not any(_runs(each) for each in grandchildren))


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_a_child_can_be_stopped_before_it_has_begun(lab: Lab) -> None:
    lab.supervisor.start([lab.role("a", GOOD)])

    await asyncio.wait_for(lab.supervisor.stop((("a",),)), 30)


async def test_children_learn_that_their_supervisor_was_killed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    supervisor = f"""
import asyncio, os
from pathlib import Path
from pipeline.clock import SystemClock
from producers.labkeeper.premises import Premises
from producers.labkeeper.roles import Role
from producers.labkeeper.screen import Screen
from producers.labkeeper.supervisor import Supervisor
async def main():
    premises = Premises(Path({str(tmp_path)!r}), crashed_predecessor=False)
    supervisor = Supervisor(premises, Screen(SystemClock(), verbose=False), asyncio.Event())
    supervisor.start([Role("a", ("-c", {BEREFT!r}), os.environ)])
    await supervisor.watch()
asyncio.run(main())
"""
    lab = Lab(tmp_path)
    with subprocess.Popen(  # noqa: ASYNC220  # starting it takes no time
        [sys.executable, "-c", supervisor], env={**os.environ, "PYTHONPATH": "."}
    ) as process:
        child = psutil.Process(await lab.pid("a"))
        process.kill()
    await eventually(lambda: not _runs(child))
