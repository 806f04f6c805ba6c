from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import web

from schemas.description import Annotation
from tests.unit.producers.labkeeper.command_line import Result, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble, problem, sse
from tests.unit.producers.labkeeper.fleet import T0, machine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]

RESET = sse("reset", {}, id=1)
A1 = sse("machine", machine("a"), id=2)
B1 = sse("machine", machine("b"), id=3)
SYNCED = sse("synced", {"machines": 2}, id=4)
A_HEARTBEAT = sse("machine", machine("a", version=2), id=5)
A_HOT = sse("machine", machine("a", version=3, recovering="Too hot."), id=6)
B_GONE = sse("deleted", {"id": "b"}, id=7)
C_NEW = sse("machine", machine("c"), id=8)


async def _watch(facade: FacadeDouble, *arguments: str) -> Result:
    return await labkeeper_beside("machines", "watch", *arguments, "--url", facade.url)


def _without_time(result: Result) -> list[str]:
    return [line.split("  ", 1)[1] for line in result.lines]


async def test_each_change_is_a_line_and_heartbeats_are_none(facade: FacadeDouble) -> None:
    facade.streams = [
        ["retry: 10\n\n", RESET, A1, B1, SYNCED, A_HEARTBEAT, A_HOT, ": heartbeat\n\n", B_GONE, C_NEW]
    ]

    result = await _watch(facade, "--count", "3")

    assert result.code == 0
    assert _without_time(result) == [
        "a  available → recovering: Too hot.",
        "b  deleted",
        "c  is new, available",
    ]
    assert result.err == "Watching 2 machines.\n"
    assert facade.asked[0].path == "/api/v1/machines/watch"


async def test_what_the_state_does_not_tell_stands_beside_it(facade: FacadeDouble) -> None:
    told = machine("a", version=2, attached_device="adb", note=Annotation(message="smells\x1b[m"))
    facade.streams = [[RESET, A1, SYNCED, sse("machine", told, id=5)]]

    result = await _watch(facade, "-n", "1")

    assert _without_time(result) == ["a  available  [device: nodevice → adb]  [note: - → smells\\x1b[m]"]


async def test_heartbeats_and_the_state_at_the_start_are_shown_on_request(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, A1, B1, SYNCED, A_HEARTBEAT]]

    result = await _watch(facade, "--initial", "--heartbeats", "-n", "3")

    assert _without_time(result) == ["a  available", "b  available", "a  heard from, available"]


async def test_json_is_one_object_a_line(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, A1, B1, SYNCED, A_HOT, B_GONE]]

    result = await _watch(facade, "-n", "2", "-o", "json")

    changed, deleted = (json.loads(line) for line in result.lines)
    assert (changed["kind"], changed["id"]) == ("changed", "a")
    assert changed["changes"] == [{"kind": "recovery", "before": "", "after": "Too hot."}]
    assert changed["machine"] == machine("a", version=3, recovering="Too hot.")
    assert (deleted["kind"], deleted["id"], deleted["changes"]) == ("deleted", "b", [])


async def test_a_lost_connection_is_taken_up_where_it_broke_off(facade: FacadeDouble) -> None:
    facade.streams = [["retry: 10\n\n", RESET, A1, B1, SYNCED], [A_HOT], [B_GONE]]

    result = await _watch(facade, "-n", "2")

    assert result.code == 0
    assert [asked.last_event_id for asked in facade.asked] == [None, "4", "6"]
    assert [line.split()[0] for line in _without_time(result)] == ["a", "b"]
    assert "The connection is lost; connecting again …" in result.err
    assert "Connected again." in result.err


async def test_a_facade_that_is_away_for_a_while_is_waited_for(facade: FacadeDouble) -> None:
    facade.streams = [["retry: 10\n\n", RESET, SYNCED], [C_NEW]]
    facade.refusals_between = [problem(503, "restarting"), web.Response(status=502)]

    result = await _watch(facade, "-n", "1")

    assert result.code == 0
    assert [asked.last_event_id for asked in facade.asked] == [None, "4", "4", "4"]


async def test_a_token_that_was_revoked_meanwhile_ends_the_watch(facade: FacadeDouble) -> None:
    facade.streams = [["retry: 10\n\n", RESET, SYNCED], []]
    facade.refusals_between = [problem(401, "the token is not valid")]

    result = await _watch(facade, "-n", "1")

    assert result.code == 4


async def test_one_machine_has_its_own_stream(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, A1, SYNCED, A_HOT]]

    result = await _watch(facade, "a", "-n", "1")

    assert result.err == "Watching a.\n"
    assert facade.asked[0].path == "/api/v1/machines/a/watch"


async def test_of_several_machines_only_those_are_shown(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, A1, B1, SYNCED, A_HOT, C_NEW]]

    result = await _watch(facade, "b", "c", "-n", "1")

    assert _without_time(result) == ["c  is new, available"]
    assert result.err == "Watching b, c (1 not known yet).\n"
    assert facade.asked[0].path == "/api/v1/machines/watch"


async def test_too_few_changes_in_time_is_exit_code_6(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, A1, SYNCED, A_HOT]]

    result = await _watch(facade, "-n", "2", "--timeout", "0.5")

    assert result.code == 6
    assert len(result.lines) == 1
    assert "it did not come to 2 changes in 0.5 s" in result.err


async def test_without_a_count_the_timeout_is_simply_the_end(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, A1, SYNCED]]

    assert (await _watch(facade, "--timeout", "0.3")).code == 0


async def test_who_may_not_watch_is_told_at_once(facade: FacadeDouble) -> None:
    facade.refusal = lambda: problem(403, "viewers only")

    result = await _watch(facade)

    assert result.code == 4
    assert "viewers only" in result.err


async def test_a_page_is_not_a_stream(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.Response(text="<h1>hello</h1>", content_type="text/html")

    result = await _watch(facade)

    assert result.code == 1
    assert "check --url" in result.err


async def test_without_a_facade_there_is_nothing_to_wait_for() -> None:
    result = await labkeeper_beside("machines", "watch", "--url", "http://127.0.0.1:1")

    assert result.code == 7


async def _interrupted(facade: FacadeDouble, *arguments: str) -> tuple[int, str]:
    facade.streams = [[RESET, A1, SYNCED]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "producers.labkeeper", "machines", "watch", *arguments, "--url", facade.url),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        assert await process.stderr.readline() == b"Watching 1 machine.\n"
        process.send_signal(signal.SIGINT)
        _, rest = await process.communicate()
    assert process.returncode is not None
    return process.returncode, rest.decode()


async def test_ctrl_c_ends_a_watch_that_has_no_end_of_its_own(facade: FacadeDouble) -> None:
    assert await _interrupted(facade) == (0, "")


async def test_ctrl_c_before_the_count_is_an_interruption(facade: FacadeDouble) -> None:
    assert await _interrupted(facade, "--count", "1") == (130, "")


async def test_the_time_of_a_line_is_when_we_heard_of_it(facade: FacadeDouble) -> None:
    facade.streams = [[RESET, SYNCED, C_NEW]]

    [line] = (await _watch(facade, "-n", "1", "-o", "json")).lines

    assert json.loads(line)["at"] > T0.isoformat()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("command", ["watch --initial", "list -o name"])
async def test_a_reader_who_has_seen_enough_is_no_failure(facade: FacadeDouble, command: str) -> None:
    many = [machine(f"m-{number}") for number in range(5000)]  # more than a pipe holds
    facade.add(*many)
    facade.page = 1000
    facade.streams = [[RESET, *(sse("machine", one, id=2) for one in many), SYNCED]]
    line = f"set -o pipefail; {sys.executable} -m producers.labkeeper machines {command} | head -n 1"

    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", line),
        env={**os.environ, "PYTHONPATH": str(ROOT), "LABKEEPER_URL": facade.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")
    assert len(out.splitlines()) == 1
