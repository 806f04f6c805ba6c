"""Event streams over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from consumers.facade.keys import FLEET, STREAMS
from pipeline import metrics
from tests.unit.consumers.facade.broken import AwayStore
from tests.unit.consumers.facade.lab import Lab, SseClient, running, until, watching

pytestmark = pytest.mark.slow

FLEET_STREAM = "/api/v1/machines/watch"
ONE_STREAM = "/api/v1/machines/rack4-07/watch"
OLD_STREAM = "/json/v1/machine/sse/description/updated?stream=rack4-07"


def battery(data: str) -> int:
    return int(json.loads(data)["Battery"])


def clients(kind: str) -> float:
    return float(metrics.SSE_CLIENTS.labels(kind)._value.get())


def dropped(kind: str) -> float:
    return float(metrics.SSE_DROPPED.labels(kind)._value.get())


async def test_a_fleet_stream_begins_with_everything_and_goes_on_live(lab: Lab) -> None:
    await lab.machine("a", battery=1)
    await lab.machine("b", battery=2)
    async with watching(lab, FLEET_STREAM) as client:
        beginning = await client.until("synced")
        assert [each.event for each in beginning] == ["reset", "machine", "machine", "synced"]
        assert beginning[-1].data == '{"machines":2}'
        assert all(each.id for each in beginning)
        assert "retry: 1000" in client.fields
        await lab.machine("a", battery=3)
        change = await client.next()
        assert (change.event, battery(change.data)) == ("machine", 3)
        await lab.delete("a")
        assert (await client.next()).data == '{"id":"a"}'


async def test_the_headers_keep_proxies_from_buffering(lab: Lab) -> None:
    async with watching(lab, FLEET_STREAM) as client:
        headers = client.response.headers
    assert client.response.content_type == "text/event-stream"
    assert headers["Cache-Control"] == "no-cache, no-transform"
    assert headers["X-Accel-Buffering"] == "no"


async def test_a_fleet_stream_resumes_where_it_broke_off(lab: Lab) -> None:
    await lab.machine("a", battery=1)
    async with watching(lab, FLEET_STREAM) as client:
        seen = (await client.until("synced"))[-1].id
    await lab.machine("b", battery=2)
    await lab.machine("a", battery=3)
    async with watching(lab, FLEET_STREAM, last_event_id=seen) as client:
        missed = [await client.next(), await client.next()]
    assert [battery(each.data) for each in missed] == [2, 3]
    async with watching(lab, f"{FLEET_STREAM}?last_event_id={missed[0].id}") as client:
        assert battery((await client.next()).data) == 3


@pytest.mark.parametrize(
    "place", ["other-17", "nonsense", "0", "-1", "{boot}-99999999", "{boot}-x", "{boot}-snapshot"]
)
async def test_a_place_that_is_not_known_begins_anew(lab: Lab, place: str) -> None:
    await lab.machine("a")
    last_event_id = place.replace("{boot}", lab.app[FLEET].boot_id)
    async with watching(lab, FLEET_STREAM, last_event_id=last_event_id) as client:
        assert [each.event for each in await client.until("synced")] == ["reset", "machine", "synced"]


async def test_a_stream_broken_off_before_it_was_synced_begins_anew(lab: Lab) -> None:
    await lab.machine("a")
    await lab.machine("b")
    async with watching(lab, FLEET_STREAM) as client:
        await client.next()
        halfway = await client.next()
    async with watching(lab, FLEET_STREAM, last_event_id=halfway.id) as client:
        assert (await client.next()).event == "reset"


async def test_a_place_that_fell_off_the_log_begins_anew() -> None:
    async with running(change_log_length=2) as lab:
        await lab.machine("a")
        async with watching(lab, FLEET_STREAM) as client:
            seen = (await client.until("synced"))[-1].id
        for number in range(4):
            await lab.machine("a", battery=number + 1)
        async with watching(lab, FLEET_STREAM, last_event_id=seen) as client:
            assert (await client.next()).event == "reset"


async def test_a_machine_stream_is_about_that_machine_only(lab: Lab) -> None:
    await lab.machine(battery=1)
    async with watching(lab, ONE_STREAM) as client:
        beginning = await client.until("synced")
        assert [each.event for each in beginning] == ["reset", "machine", "synced"]
        await lab.machine("other", battery=2)
        after = await lab.machine(battery=3)
        change = await client.next()
        assert (change.id, battery(change.data)) == (str(after.row_version), 3)
        await lab.delete()
        gone = await client.next()
        assert (gone.event, gone.data) == ("deleted", '{"id":"rack4-07"}')


async def test_a_machine_stream_resumes_by_version(lab: Lab) -> None:
    first = await lab.machine(battery=1)
    async with watching(lab, ONE_STREAM, last_event_id=str(first.row_version)) as client:
        second = await lab.machine(battery=2)
        assert (await client.next()).id == str(second.row_version)  # the known state was not repeated
    third = await lab.machine(battery=3)
    async with watching(lab, ONE_STREAM, last_event_id=str(first.row_version)) as client:
        message = await client.next()
        assert (message.event, message.id) == ("machine", str(third.row_version))


async def test_a_version_from_the_future_begins_anew(lab: Lab) -> None:
    await lab.machine(battery=1)
    async with watching(lab, ONE_STREAM, last_event_id="900") as client:
        assert (await client.next()).event == "reset"


async def test_a_machine_can_be_watched_before_it_exists(lab: Lab) -> None:
    async with watching(lab, ONE_STREAM) as client, watching(lab, OLD_STREAM) as old_client:
        assert (await client.until("synced"))[-1].data == '{"machines":0}'
        await lab.machine(battery=9)
        assert battery((await client.next()).data) == 9
        assert battery((await old_client.next()).data) == 9


async def test_the_old_stream_sends_descriptions_without_a_name(lab: Lab) -> None:
    first = await lab.machine(battery=1)
    async with watching(lab, OLD_STREAM) as client:
        message = await client.next()
        assert (message.event, message.id, battery(message.data)) == ("message", str(first.row_version), 1)
        await lab.delete()  # tells old clients nothing
        await lab.machine(battery=2)
        assert battery((await client.next()).data) == 2
    assert not any(line.startswith("event:") for line in client.fields)


async def test_an_operators_action_is_on_the_stream_before_the_outbox_is_relayed(lab: Lab) -> None:
    await lab.machine()
    async with watching(lab, ONE_STREAM) as client:
        await client.until("synced")
        async with lab.http.post("/_/machine/toggle_mode/rack4-07") as response:
            assert response.status == 200
        change = await client.next()
        assert json.loads(change.data)["MaintenanceMode"] != ""
        await lab.relay()  # the same again: not news
        await lab.machine(battery=7)
        assert battery((await client.next()).data) == 7


async def test_idle_streams_get_a_heartbeat() -> None:
    async with (
        running(heartbeat=timedelta(seconds=0.01)) as lab,
        watching(lab, FLEET_STREAM) as client,
        watching(lab, ONE_STREAM) as other,
    ):
        await client.until("synced")
        await other.until("synced")
        waiting = [asyncio.ensure_future(each.next()) for each in (client, other)]
        await until(lambda: client.comments > 0 and other.comments > 0)
        await lab.machine()
        await asyncio.gather(*waiting)


async def test_a_client_that_goes_is_forgotten(lab: Lab) -> None:
    before = clients("fleet")
    async with watching(lab, FLEET_STREAM) as client:
        await client.until("synced")
        assert clients("fleet") == before + 1
    await until(lambda: clients("fleet") == before)


async def test_streams_end_properly_when_the_server_stops() -> None:
    before = clients("machine")
    async with (
        running() as lab,
        watching(lab, FLEET_STREAM) as client,
        watching(lab, ONE_STREAM) as other,
    ):
        await client.until("synced")
        await other.until("synced")
        lab.app[STREAMS].close()
        with pytest.raises(EOFError):
            await client.next()
        with pytest.raises(EOFError):
            await other.next()
        async with lab.http.get(FLEET_STREAM) as response:
            assert response.status == 503
    assert clients("machine") == before


async def test_more_streams_than_allowed_are_refused() -> None:
    async with running(max_streams=1) as lab, watching(lab, FLEET_STREAM) as client:
        await client.until("synced")
        async with lab.http.get(ONE_STREAM) as response:
            assert response.status == 503


@contextmanager
def socket_that_never_reads(lab: Lab, path: str, version: str = "HTTP/1.1") -> Iterator[socket.socket]:
    """A stream's client with a small window that only sends its request."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = urlsplit(lab.url)
        sock.connect((address.hostname, address.port))
        sock.sendall(f"GET {path} {version}\r\nHost: localhost\r\n\r\n".encode())
        yield sock


@pytest.fixture
async def impatient() -> AsyncIterator[Lab]:
    """A lab that holds little for slow readers, and not for long."""
    async with running(stream_buffer_bytes=10_000, stream_patience=timedelta(seconds=0.2)) as lab:
        yield lab


LONG_TEXT = "x" * 200_000


@pytest.mark.parametrize(
    ("path", "kind"), [(FLEET_STREAM, "fleet"), (ONE_STREAM, "machine"), (OLD_STREAM, "legacy")]
)
async def test_a_reader_that_stops_reading_is_cut_off_and_the_others_are_served(
    impatient: Lab, path: str, kind: str
) -> None:
    lab = impatient
    await lab.machine()
    open_before, dropped_before = clients(kind), dropped(kind)
    with socket_that_never_reads(lab, path) as slow:
        await until(lambda: clients(kind) == open_before + 1)
        async with watching(lab, ONE_STREAM) as client:
            await client.until("synced")
            rounds = 0
            async with asyncio.timeout(20):
                while dropped(kind) == dropped_before:
                    rounds += 1
                    await lab.machine(battery=rounds, recovering=LONG_TEXT)
                    assert battery((await client.next()).data) == rounds
        with pytest.raises((ConnectionError, EOFError)):
            await asyncio.wait_for(asyncio.to_thread(_read_to_the_end, slow), 10)
    async with watching(lab, FLEET_STREAM) as client:  # it comes back, and has everything
        messages = await client.until("synced")
        assert battery(messages[1].data) == rounds


def _read_to_the_end(sock: socket.socket) -> None:
    sock.settimeout(5)
    while sock.recv(65536):
        pass
    raise EOFError


async def test_a_reader_that_stops_during_the_initial_state_is_cut_off(impatient: Lab) -> None:
    for number in range(60):
        await impatient.machine(f"m-{number}", recovering=LONG_TEXT)
    before = dropped("fleet")
    with socket_that_never_reads(impatient, FLEET_STREAM):
        await until(lambda: dropped("fleet") == before + 1)


async def test_a_reader_that_lags_and_catches_up_misses_nothing() -> None:
    async with running(stream_buffer_bytes=10_000, stream_patience=timedelta(minutes=5)) as lab:
        await lab.machine()
        async with watching(lab, FLEET_STREAM) as client:
            await client.until("synced")
            for number in range(1, 101):  # twenty megabytes, while nobody reads
                await lab.machine(battery=number, recovering=LONG_TEXT)
            seen = [battery((await client.next()).data) for _ in range(100)]
    assert seen == list(range(1, 101))


async def test_a_proxy_that_speaks_http_1_0_gets_the_stream_without_chunks(lab: Lab) -> None:
    await lab.machine(battery=5)
    address = urlsplit(lab.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET {ONE_STREAM} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    async with asyncio.timeout(60):
        headers = await reader.readuntil(b"\r\n\r\n")
        beginning = await reader.readuntil(b'data: {"machines":1}\n\n')
    writer.close()
    assert b"chunked" not in headers.lower()
    assert beginning.startswith(b"retry: 1000\n\nid: 0\nevent: reset\ndata: {}\n\nid: ")


async def test_a_thousand_readers_all_see_each_change(lab: Lab) -> None:
    for number in range(10):
        await lab.machine(f"m-{number}")
    address = urlsplit(lab.url)
    streams = [await asyncio.open_connection(address.hostname, address.port) for _ in range(1000)]
    for _, writer in streams:
        writer.write(f"GET {FLEET_STREAM} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    for reader, _ in streams:
        await asyncio.wait_for(reader.readuntil(b'data: {"machines":10}\n\n'), 30)
    for number in range(20):
        await lab.machine(f"m-{number % 10}", battery=1000 + number)
    for reader, writer in streams:
        await asyncio.wait_for(reader.readuntil(b'"Battery":1019,'), 30)
        writer.close()


async def test_streams_wait_for_the_machines_to_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.facade.readers._PATIENCE_AT_START_S", 0.05)
    async with running(store=AwayStore()) as lab, lab.http.get(FLEET_STREAM) as response:
        assert response.status == 503
        assert "loaded" in await response.text()


async def test_changes_that_cannot_be_read_are_passed_over(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage: list[tuple[bytes, dict[str, str]]] = [
        (b"{", {}),
        (b"", {}),
        (b"", {"labkeeper_version": "x"}),
        (b"[1]", {}),
    ]
    async with watching(lab, FLEET_STREAM) as client:
        await client.until("synced")
        for value, headers in garbage:
            await lab.publish_change("a", value, **headers)
        await lab.machine("a", battery=4)
        assert battery((await client.next()).data) == 4
    assert capsys.readouterr().out.count("change_not_read") == len(garbage)


async def test_a_reader_sees_what_changed_while_it_was_told_of_everything() -> None:
    async with running(stream_buffer_bytes=10_000) as lab:
        for number in range(40):
            await lab.machine(f"m-{number}", recovering=LONG_TEXT)
        async with watching(lab, FLEET_STREAM) as client:
            await client.next()
            await lab.machine("m-0", battery=77)
            await lab.delete("m-1")
            state: dict[str, int] = {}
            await _apply(
                client, state, lambda: state.get("m-0") == 77 and "m-1" not in state and len(state) == 39
            )


async def _apply(client: SseClient, state: dict[str, int], enough: Any) -> None:
    synced = False
    while not (synced and enough()):
        message = await client.next()
        document = json.loads(message.data)
        if message.event == "machine":
            state[document["Dimensions"]["id"][0]] = document["Battery"]
        elif message.event == "deleted":
            state.pop(document["id"], None)
        synced = synced or message.event == "synced"
