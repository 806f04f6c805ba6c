"""`labkeeper up`, as somebody at a terminal has it: real processes, seen from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from infra.servers.child import free_ports
from tests.e2e.processes import eventually

pytestmark = pytest.mark.e2e

_ROOT: Final = Path(__file__).parents[2]
_HOST: Final = "this-host"
_ENDS_WITHIN_S: Final = 60


def shows_metrics(port: int) -> bool:
    """Whether Prometheus finds something to read there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return b"# TYPE" in connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()


class Up:
    """One data folder and one port, and the `labkeeper up` that runs there at the moment."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        [self.port] = free_ports(1)
        self._output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """What the screen shows."""
        return self._output.read_text(errors="replace")

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self, *options: str) -> None:
        """Start as a terminal does: leading a process group, which Ctrl-C goes to."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command(*options),
                cwd=_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start_and_wait(self, *options: str) -> None:
        """Start, and wait until it says that all is up."""
        self.start(*options)
        eventually(lambda: "\nUp." in self.output or self.process.poll() is not None, "the lab is up")
        assert "\nUp." in self.output, self.output

    def fails(self, *options: str, data: Path | None = None, port: int | None = None, code: int = 2) -> str:
        """Start once more, elsewhere if said; the one line it ends with."""
        command = self._command(*options, data=data, port=port)
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_ENDS_WITHIN_S,
            check=False,
        )
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    def press_ctrl_c(self) -> int:
        """Send SIGINT to the terminal's process group; the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(_ENDS_WITHIN_S)

    def processes(self) -> Sequence[psutil.Process]:
        """All processes that it has started, and those that they have."""
        found: Sequence[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def processes_of_ours(self) -> Sequence[psutil.Process]:
        """The services: all but the database."""
        return [one for one in self.processes() if "--log-format" in _command_line(one)]

    def process_of(self, module: str) -> psutil.Process | None:
        """The process that runs a module of ours."""
        return next((one for one in self.processes() if module in _command_line(one)), None)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The answer of the façade; None when it is not there or not content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            return None
        return json.loads(content) if "json" in (answer.getheader("Content-Type") or "") else content.decode()

    def machines(self) -> dict[str, Any]:
        """Id to machine, of all machines that the page shows."""
        found = self.ask("GET", "/api/v1/machines?limit=1000") or {"machines": []}
        return {machine["Dimensions"]["id"][0]: machine for machine in found["machines"]}

    def clean_up(self) -> None:
        """End what a failed test, or one that kills, has left."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        left = self.left()
        for one in left:
            one.send_signal(signal.SIGQUIT)  # PostgreSQL too ends at once, and its children with it
        psutil.wait_procs(left, timeout=_ENDS_WITHIN_S)

    def left(self) -> Sequence[psutil.Process]:
        """All processes that were started for the data folder or the port, whoever their parent is."""
        marks = (str(self.data), self.url)
        return [
            one
            for one in psutil.process_iter()
            if one.pid != os.getpid() and any(mark in word for word in _command_line(one) for mark in marks)
        ]

    def _command(self, *options: str, data: Path | None = None, port: int | None = None) -> list[str]:
        place = ("--data", str(data or self.data), "--port", str(port or self.port))
        return [sys.executable, "-m", "producers.labkeeper", "up", *place, *options]

    @property
    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LABKEEPER_")}
        return {**ours, "SWARMING_BOT_ID": _HOST}


def _command_line(process: psutil.Process) -> Sequence[str]:
    try:
        words: Sequence[str] = process.cmdline()
    except psutil.Error:
        return ()
    return words


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def assert_all_end(processes: Sequence[psutil.Process], *, within_s: float) -> None:
    _, left = psutil.wait_procs([one for one in processes if _runs(one)], timeout=within_s)
    assert [one.cmdline() for one in left if _runs(one)] == []


@pytest.fixture
def up() -> Iterator[Up]:
    """In a folder that everybody can reach: root's PostgreSQL runs as somebody else."""
    with tempfile.TemporaryDirectory(prefix="labkeeper-up-") as folder:
        Path(folder).chmod(0o755)
        up = Up(Path(folder))
        yield up
        up.clean_up()


def test_it_comes_up_shows_this_computer_and_ends_with_ctrl_c(up: Up) -> None:
    up.start_and_wait()
    processes = up.processes()

    assert "<!doctype html>" in up.ask("GET", "/").lower()
    eventually(lambda: _HOST in up.machines(), "this computer is on the page")
    assert up.machines()[_HOST]["Dimensions"]["cores"] == [str(len(os.sched_getaffinity(0)))]
    assert len(processes) >= 6

    assert up.press_ctrl_c() == 0
    assert_all_end(processes, within_s=0)
    assert "Traceback" not in up.output
    assert up.output.endswith("Stopped.\n")


def test_ctrl_c_while_the_database_is_made_ends_in_order(up: Up) -> None:
    up.start()
    eventually((up.data / "postgres" / "cluster.new").exists, "the database is being made")

    assert up.press_ctrl_c() == 0
    assert up.output.endswith("Stopped.\n")
    assert "PostgreSQL could not" not in up.output
    assert up.left() == []


def test_a_second_start_makes_nothing_anew_and_finds_what_was_said_before(up: Up) -> None:
    up.start_and_wait()
    made = (up.data / "postgres" / "cluster" / "PG_VERSION").stat().st_mtime
    eventually(lambda: _HOST in up.machines(), "this computer is on the page")
    assert up.ask("PUT", f"/api/v1/machines/{_HOST}/note", {"message": "under the desk"}) is not None
    assert up.press_ctrl_c() == 0

    up.start_and_wait("--no-monitor")

    assert "schema up to date (" in up.output
    assert (up.data / "postgres" / "cluster" / "PG_VERSION").stat().st_mtime == made
    assert up.machines()[_HOST]["Note"]["Message"] == "under the desk"
    assert up.press_ctrl_c() == 0


def test_a_demonstration_adds_machines_with_their_devices(up: Up) -> None:
    up.start_and_wait("--demo", "12", "--no-monitor")

    eventually(lambda: len(up.machines()) == 12, "all machines are on the page")
    eventually(
        lambda: any(machine["AttachedDevice"] == "adb" for machine in up.machines().values()),
        "somebody has said what is attached",
    )
    assert up.press_ctrl_c() == 0


def test_every_process_shows_its_metrics_where_the_file_says(up: Up) -> None:
    up.start_and_wait(
        "--no-monitor", "--pool", "Phones=^phone-", "--pool-period", "Phones=60", "--period", "5"
    )
    file = up.data / "metrics-targets.json"

    eventually(lambda: len(json.loads(file.read_text())) == 5, "all are listed")
    for target in json.loads(file.read_text()):
        port = int(target["targets"][0].removeprefix("127.0.0.1:"))
        eventually(partial(shows_metrics, port), f"{target['labels']} answers")
    assert up.press_ctrl_c() == 0
    assert not file.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_can_be_ended_while_it_starts_also_by_somebody_impatient(up: Up, number: signal.Signals) -> None:
    up.start()
    eventually(lambda: "Labkeeper, in" in up.output, "it has begun to start")

    def has_ended() -> bool:
        up.process.send_signal(number)
        return up.process.poll() is not None

    eventually(has_ended, "it has ended")
    assert up.process.returncode == 0
    assert "Traceback" not in up.output
    assert up.left() == []


def test_a_process_that_dies_is_started_again(up: Up) -> None:
    up.start_and_wait("--no-monitor")
    facade = up.process_of("consumers.facade")
    assert facade is not None
    facade.kill()

    eventually(lambda: "facade ended (killed by SIGKILL" in up.output, "somebody is told")
    eventually(lambda: up.ask("GET", "/readyz") is not None, "the page is there again")
    assert up.press_ctrl_c() == 0


def test_a_database_that_dies_is_started_again(up: Up) -> None:
    up.start_and_wait()
    eventually(lambda: _HOST in up.machines(), "this computer is on the page")
    database = up.process_of(f"{up.data}/postgres/cluster") or up.process_of("-D")
    assert database is not None
    database.kill()

    eventually(lambda: "PostgreSQL ended: starting it again" in up.output, "somebody is told")
    eventually(
        lambda: up.ask("PUT", f"/api/v1/machines/{_HOST}/note", {"message": "still there"}) is not None,
        "the database answers again",
    )
    assert up.press_ctrl_c() == 0


def test_nothing_of_ours_outlives_a_supervisor_that_is_killed(up: Up) -> None:
    up.start_and_wait()
    eventually(lambda: len(up.processes_of_ours()) == 6, "all services run")
    ours = up.processes_of_ours()
    up.process.kill()
    up.process.wait()

    assert_all_end(ours, within_s=_ENDS_WITHIN_S)


def test_after_a_kill_it_starts_again_at_once_and_leaves_nothing_behind(up: Up) -> None:
    up.start_and_wait()
    processes = list(up.processes())
    up.process.kill()
    up.process.wait()

    up.start_and_wait()
    processes += up.processes()

    assert up.press_ctrl_c() == 0
    assert_all_end(processes, within_s=_ENDS_WITHIN_S)


def test_what_is_in_the_way_is_told_in_one_sentence(up: Up, tmp_path: Path) -> None:
    up.start_and_wait("--no-monitor")
    (tmp_path / "file").write_text("")
    [another] = free_ports(1)

    assert f"a lab already runs in {up.data} (process {up.process.pid}, {up.url})" in up.fails(
        port=another, code=1
    )
    assert f"port {up.port} of 127.0.0.1 is taken" in up.fails(data=tmp_path / "other")
    assert "cannot write to the data folder" in up.fails(data=tmp_path / "file", port=another)
    assert up.press_ctrl_c() == 0


def test_a_database_of_another_version_is_refused_in_one_sentence(up: Up) -> None:
    cluster = up.data / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("12\n")
    up.start()

    assert up.process.wait(_ENDS_WITHIN_S) == 1
    assert "was written by PostgreSQL 12" in up.output
    assert "Traceback" not in up.output


def test_a_lab_for_the_network_wants_tokens(up: Up) -> None:
    up.start("--host", "0.0.0.0")

    assert up.process.wait(_ENDS_WITHIN_S) == 2
    assert "--tokens" in up.output.splitlines()[-1]
