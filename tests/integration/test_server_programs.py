"""Where the programs of test servers are kept, and how their processes are held."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from infra.servers.cache import CACHE_VARIABLE, cached
from infra.servers.child import Child, free_ports
from infra.servers.errors import ServerFailed

pytestmark = pytest.mark.integration

MAKER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from infra.servers.cache import cached

    def make(folder: Path) -> None:
        print("made", flush=True)
        sys.stdin.readline()
        (folder / "program").touch()

    print((cached("tool-1", make) / "program").exists(), flush=True)
    """
)


def _maker() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", MAKER], stdin=pipe, stdout=pipe, text=True)


def test_two_who_want_a_program_at_once_have_it_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with _maker() as one, _maker() as other:
        for each in (one, other):
            assert each.stdin is not None
            each.stdin.write("go on\n")
            each.stdin.flush()
        said = [each.communicate(timeout=60)[0] for each in (one, other)]
    assert sorted(said) == ["True\n", "made\nTrue\n"]


def test_a_program_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ServerFailed("the network is gone")

    with pytest.raises(ServerFailed):
        cached("tool-1", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    made = cached("tool-1", lambda folder: (folder / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]


WORDS = (
    "starting\nfatal: no port\n\tat java.base/java.net.Bind(Bind.java:9)\n\t... 18 more\nCaused by: in use\n"
)


def test_a_server_that_ends_by_itself_is_quoted_without_its_stack(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", f"print({WORDS!r})"], tmp_path / "log")
    with pytest.raises(
        ServerFailed, match=r"The thing did not start; .*: starting \| fatal: no port \| Caused by: in use$"
    ):
        child.await_ready(lambda: False, "The thing", within_s=60)
    child.kill()
    child.kill()  # twice is no harm


def test_a_server_that_will_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal,time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    child = Child([sys.executable, "-c", stubborn], log)
    child.await_ready(lambda: "here" in log.read_text(), "The thing", within_s=60)
    child.stop(within_s=0.1)
    assert not child.running


def test_ports_are_not_of_those_that_outgoing_connections_take() -> None:
    ports = free_ports(10)
    assert len(set(ports)) == 10
    assert max(ports) < 32768
