"""What agents find at the façade where they cannot reach the broker."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from consumers.facade.keys import POWER_WATCH
from pipeline import metrics
from pipeline.broker.protocol import Outgoing
from schemas import envelope
from schemas.api import MOST_RESULTS
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, agent_lease, read_result
from schemas.topics import POWER_COMMANDS, POWER_RESULTS
from tests.unit.consumers.facade.broken import AwayBroker
from tests.unit.consumers.facade.lab import NOW, Lab, running, until, watching
from tests.unit.consumers.facade.test_power import POWER, ask

Tokens = tuple[Path, dict[str, dict[str, str]]]

WATCH = "/api/v1/power/watch"
RESULTS = "/api/v1/power/results"
LEASE = "/api/v1/power/leases/rack4"


def a_step(**fields: Any) -> dict[str, Any]:
    usual = {"type": "step", "command_id": new_ulid(), "machine_id": "rack4-07", "status": "accepted"}
    return {**usual, "at": "2026-03-01T12:00:00Z", "agent": "rack4", **fields}


def a_report(**fields: Any) -> dict[str, Any]:
    usual = {"type": "report", "machine_id": "rack4-07", "state": "available", "agent": "rack4"}
    return {**usual, "controller": "mpower/a", "port": "1", "at": "2026-03-01T12:00:00Z", **fields}


def a_command(**fields: Any) -> PowerCommand:
    usual: dict[str, Any] = {"id": new_ulid(), "machine_id": "rack4-07", "action": PowerAction.CYCLE}
    usual |= {"who": "olga", "requested_at": NOW, "expires_at": NOW + timedelta(minutes=10)}
    return PowerCommand.model_validate({**usual, **fields})


async def publish(lab: Lab, value: bytes) -> None:
    await lab.broker.publish([Outgoing(POWER_COMMANDS, "rack4-07", value, {})])


# --- the stream --------------------------------------------------------------------------------------------------------
async def test_commands_are_streamed_as_they_come(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    async with watching(lab, WATCH) as client:
        _, record, _ = await ask(lab, "PUT", POWER, {"action": "cycle"})
        await ask(lab, "DELETE", POWER)
        await lab.relay()
        told = [await client.next(), await client.next()]
    assert [(each.event, each.id) for each in told] == [("command", record["command"]["id"])] * 2
    commands = [PowerCommand.model_validate_json(each.data) for each in told]
    assert [each.cancelled for each in commands] == [False, True]


async def test_all_watchers_hear_of_a_command_and_what_is_none_is_left_out(lab: Lab) -> None:
    async with watching(lab, WATCH) as one, watching(lab, WATCH) as other:
        with capture_logs() as lines:
            await publish(lab, b"nonsense")
            command = a_command(why="<b>")
            await publish(lab, command.model_dump_json().encode())
            heard = [await one.next(), await other.next()]
    assert [each.id for each in heard] == [command.id] * 2
    assert "\\u003cb\\u003e" in heard[0].data
    assert [each["event"] for each in lines if each["log_level"] == "warning"] == ["command_not_read"]


async def test_a_stream_of_commands_has_heartbeats() -> None:
    async with running(heartbeat=timedelta(seconds=0.05)) as lab, watching(lab, WATCH) as client:
        await publish(lab, b"nonsense")
        async with asyncio.timeout(60):
            while client.comments < 2:
                line = await client.response.content.readline()
                client.comments += line.startswith(b":")


async def test_streams_of_commands_end_in_order_when_the_server_stops(lab: Lab) -> None:
    async with watching(lab, WATCH) as client:
        lab.app[POWER_WATCH].close()
        with pytest.raises(EOFError):
            await client.next()
    async with lab.http.get(WATCH) as response:
        assert response.status == 503


async def test_there_is_a_limit_to_streams_of_commands() -> None:
    async with running(max_power_streams=1) as lab, watching(lab, WATCH), lab.http.get(WATCH) as response:
        assert response.status == 503


async def test_a_reader_of_commands_that_goes_away_is_forgotten(lab: Lab) -> None:
    gauge = metrics.SSE_CLIENTS.labels("power")
    async with watching(lab, WATCH):
        assert gauge._value.get() == 1
    await until(lambda: gauge._value.get() == 0)


async def test_a_reader_of_commands_that_does_not_keep_up_is_cut_off() -> None:
    dropped = metrics.SSE_DROPPED.labels("power")
    before = dropped._value.get()
    async with running(stream_buffer_bytes=10_000) as lab:
        address = urlsplit(lab.url)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)  # the socket's
            await asyncio.get_running_loop().sock_connect(deaf, (address.hostname, address.port))
            request = f"GET {WATCH} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(deaf, request.encode())
            await until(lambda: metrics.SSE_CLIENTS.labels("power")._value.get() == 1)
            command = a_command(why="x" * 2000).model_dump_json().encode()
            async with asyncio.timeout(20):
                while dropped._value.get() == before:
                    await lab.broker.publish([Outgoing(POWER_COMMANDS, "rack4-07", command, {})] * 200)
                    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("role", "status"), [("agent", 200), ("operator", 200), ("viewer", 403), ("machine", 403)]
)
async def test_agents_and_operators_may_hear_of_commands(tokens: Tokens, role: str, status: int) -> None:
    path, headers = tokens
    async with running(tokens=path) as lab, lab.http.get(WATCH, headers=headers[role]) as response:
        assert response.status == status


# --- results -----------------------------------------------------------------------------------------------------------
async def test_results_are_handed_to_the_broker_in_order_under_their_machine(lab: Lab) -> None:
    sent = [a_step(), a_report(machine_id="other"), a_step(status="done", text="ok")]
    status, answer, _ = await ask(lab, "POST", RESULTS, sent)
    assert (status, answer) == (202, {"taken": 3})
    published = await lab.broker.fetch(POWER_RESULTS)
    assert sorted(each.key for each in published) == ["other", "rack4-07", "rack4-07"]
    steps = [read_result(each.value) for each in published if each.key == "rack4-07"]
    assert [each.model_dump(mode="json")["status"] for each in steps] == ["accepted", "done"]
    assert published[0].headers[envelope.TYPE] == envelope.POWER_RESULT_TYPE


async def test_no_results_are_fine(lab: Lab) -> None:
    assert (await ask(lab, "POST", RESULTS, []))[:2] == (202, {"taken": 0})


OTHER = json.loads(a_command().model_dump_json())


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "body"),
        ([a_step(), a_step(status="exploded")], "1.status"),
        ([a_step(status="queued")], "0.status"),
        ([a_step(machine_id="../x")], "0.machine_id"),
        ([a_step(command_id="1")], "0.command_id"),
        ([a_step(text="x" * 2001)], "0.text"),
        ([a_step(command=OTHER)], "0.command"),
        ([a_report(state="maybe")], "0.state"),
        ([{"type": "wish"}], "0.type"),
        (["step"], "0.body"),
        ([[]] * (MOST_RESULTS + 1), "body"),
        ([a_step()] * 400 + [a_step(at="yesterday")], "400.at"),
    ],
)
async def test_results_are_checked_one_by_one_and_all_or_none_are_taken(
    lab: Lab, sent: Any, field: str
) -> None:
    status, problem, _ = await ask(lab, "POST", RESULTS, sent)
    assert (status, problem["errors"][0]["field"]) == (422, field)
    assert not await lab.broker.fetch(POWER_RESULTS)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"[", "application/json", 422),
        (b"\xff", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"[]", "text/plain", 415),
        (b"[" + b" " * (4 << 20) + b"]", "application/json", 413),
    ],
)
async def test_a_body_that_is_no_list_of_results_is_refused(
    lab: Lab, body: bytes, kind: str, status: int
) -> None:
    async with lab.http.post(RESULTS, data=io.BytesIO(body), headers={"Content-Type": kind}) as response:
        assert response.status == status


async def test_results_that_the_broker_does_not_have_are_not_accepted() -> None:
    async with running(broker=AwayBroker()) as lab:
        assert (await ask(lab, "POST", RESULTS, [a_step()]))[0] == 503


async def test_an_agent_speaks_for_itself_and_an_operator_for_anybody(tokens: Tokens) -> None:
    path, headers = tokens
    async with running(tokens=path) as lab:
        for role, agent, expected in (
            ("agent", "rack4", 202),
            ("agent", "rack5", 403),
            ("operator", "rack5", 202),
        ):
            sent = [a_report(agent=agent)]
            assert (await ask(lab, "POST", RESULTS, sent, **headers[role]))[0] == expected, (role, agent)
        sent = [a_step(), a_step(agent="rack5")]
        assert (await ask(lab, "POST", RESULTS, sent, **headers["agent"]))[0] == 403


# --- leases ------------------------------------------------------------------------------------------------------------
async def test_one_process_at_a_time_is_an_agent(lab: Lab) -> None:
    one, other = ({"owner": name, "seconds": 30} for name in ("one", "other"))
    assert (await ask(lab, "PUT", LEASE, one))[:2] == (200, {"held": True})
    assert (await ask(lab, "PUT", LEASE, one))[1] == {"held": True}
    assert (await ask(lab, "PUT", LEASE, other))[1] == {"held": False}
    assert not await lab.store.acquire(agent_lease("rack4"), "somebody", seconds=1)
    assert (await ask(lab, "DELETE", LEASE, other))[:2] == (200, {"held": False})
    assert (await ask(lab, "PUT", LEASE, other))[1] == {"held": False}
    await ask(lab, "DELETE", LEASE, {"owner": "one"})
    assert (await ask(lab, "PUT", LEASE, other))[1] == {"held": True}
    lab.clock.advance(timedelta(seconds=31))
    assert (await ask(lab, "PUT", LEASE, one))[1] == {"held": True}


@pytest.mark.parametrize(
    ("path", "sent", "field"),
    [
        (LEASE, {"owner": ""}, "owner"),
        (LEASE, {"owner": "x", "seconds": 0}, "seconds"),
        (LEASE, {"owner": "x", "seconds": 601}, "seconds"),
        ("/api/v1/power/leases/-x", {"owner": "x"}, "name"),
        ("/api/v1/power/leases/" + "x" * 129, {"owner": "x"}, "name"),
    ],
)
async def test_a_lease_that_makes_no_sense_is_refused(lab: Lab, path: str, sent: Any, field: str) -> None:
    status, problem, _ = await ask(lab, "PUT", path, sent)
    assert (status, problem["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_an_agent_leases_its_own_name_only(tokens: Tokens, method: str) -> None:
    path, headers = tokens
    async with running(tokens=path) as lab:
        for name, expected in (("rack4", 200), ("rack5", 403)):
            sent = {"owner": "x"}
            answer = await ask(lab, method, f"/api/v1/power/leases/{name}", sent, **headers["agent"])
            assert answer[0] == expected
