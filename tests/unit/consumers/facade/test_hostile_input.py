"""Requests that nobody should send, as bytes on a socket: each gets an answer that names the field, and nothing else breaks."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.hostile import HOSTILE_EVENTS, event
from tests.unit.consumers.facade.lab import Lab

pytestmark = pytest.mark.slow


async def exchange(lab: Lab, sent: bytes) -> tuple[int, str]:
    """Status and body of the answer to these bytes."""
    address = urlsplit(lab.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(60):
            writer.write(sent)
            status_line = await reader.readline()
            headers = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in headers.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            body = await reader.readexactly(length)
    finally:
        writer.close()
    return int(status_line.split()[1]), body.decode()


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("case", HOSTILE_EVENTS)
@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/events", 422), ("/json/v1/machine/event/", 400)], ids=["new", "old"]
)
async def test_a_hostile_event_is_refused_by_the_name_of_its_field(
    lab: Lab, path: str, status: int, case: str
) -> None:
    body, field = HOSTILE_EVENTS[case]
    answered, text = await exchange(lab, post(path, body))
    assert answered == status
    if status == 422:
        assert json.loads(text)["errors"][0]["field"] == field
    else:
        assert text.startswith(f"{field}: ")
        assert text.endswith("\n")
    assert await lab.published_events() == []
    answered, _ = await exchange(lab, post(path, event()))  # the neighbours are unharmed
    assert answered in {200, 202}


@pytest.mark.parametrize("path", ["/api/v1/events", "/json/v1/machine/event/"])
async def test_an_event_of_ten_megabytes_is_refused(lab: Lab, path: str) -> None:
    large = event(android={"getprop": "x" * 10_000_000})
    status, text = await exchange(lab, post(path, large))
    assert status == 413
    assert "larger than 1048576 bytes" in text


async def test_an_event_that_is_large_only_when_unpacked_is_refused(lab: Lab) -> None:
    packed = gzip.compress(event(android={"getprop": "x" * 10_000_000}))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with lab.http.post("/api/v1/events", data=packed, headers=headers) as response:
        assert response.status == 413
    async with lab.http.post("/api/v1/events", data=gzip.compress(event()), headers=headers) as response:
        assert response.status == 202
    async with lab.http.post("/api/v1/events", data=b"not packed", headers=headers) as response:
        assert response.status == 400


async def test_a_large_event_without_a_length_is_refused_while_it_comes(lab: Lab) -> None:
    async def endless() -> Any:
        yield b'{"type":"'
        for _ in range(200):
            yield b"x" * 10_000

    headers = {"Content-Type": "application/json"}
    async with lab.http.post("/api/v1/events", data=endless(), headers=headers) as response:
        assert response.status == 413


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/json; charset=latin-1",
    ],
)
async def test_new_routes_want_json_and_old_ones_do_not_ask(lab: Lab, content_type: str) -> None:
    status, _ = await exchange(lab, post("/api/v1/events", event(), content_type))
    assert status == 415
    status, _ = await exchange(lab, post("/json/v1/machine/event/", event(), content_type))
    assert status == 200


HOSTILE_IDS = {
    "parent": "..%2Fx",
    "dots": "..",
    "quotes": "a%22b",
    "NUL": "a%00",
    "half an escape": "a%f",
    "no character": "%ff%fe",
    "space": "%20",
    "newline": "a%0A",
    "umlaut": "r%C3%A4ck",
    "10 KB": "a" * 10_000,
    "empty": "",
}


@pytest.mark.parametrize("case", HOSTILE_IDS)
@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/v1/machines/{id}",
        "DELETE /api/v1/machines/{id}",
        "GET /api/v1/machines/{id}/history",
        "GET /api/v1/machines/{id}/watch",
        "DELETE /api/v1/machines/{id}/maintenance",
    ],
)
async def test_a_hostile_id_in_a_new_path_is_refused_by_name(lab: Lab, request_line: str, case: str) -> None:
    line = request_line.replace("{id}", HOSTILE_IDS[case])
    status, text = await exchange(lab, f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == 422
    assert json.loads(text)["errors"][0]["field"] == "id"


@pytest.mark.parametrize("case", sorted(HOSTILE_IDS.keys() - {"empty", "newline"}))
@pytest.mark.parametrize(
    "request_line",
    [
        "GET /json/v1/machine/description/{id}",
        "POST /_/machine/toggle_mode/{id}",
        "POST /_/machine/delete_machine/{id}",
        "POST /json/v1/powercycle/complete/{id}",
        "GET /json/v1/machine/sse/description/updated?stream={id}",
    ],
)
async def test_a_hostile_id_in_an_old_path_is_a_bad_request(lab: Lab, request_line: str, case: str) -> None:
    line = request_line.replace("{id}", HOSTILE_IDS[case])
    status, text = await exchange(lab, f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == 400
    assert "achine id" in text or "Machine ID must be supplied" in text
    assert list((await lab.store.list()).machines) == []


HOSTILE_NOTES = {
    "malformed": (b"{", "body"),
    "not utf-8": (b'{"message": "\xff"}', "body"),
    "NaN": (b'{"message": NaN}', "body"),
    "deep": (b"[" * 100_000, "body"),
    "many digits": (b'{"message": ' + b"9" * 10_000 + b"}", "body"),
    "number": (b'{"message": 1}', "message"),
    "null": (b'{"message": null}', "message"),
    "missing": (b"{}", "message"),
    "NUL": (b'{"message": "\\u0000"}', "message"),
    "lone surrogate": (b'{"message": "\\ud800"}', "message"),
    "long": (json.dumps({"message": "x" * 10_001}).encode(), "message"),
    "twice as many keys": (b'{"message": "x", "user": "eve"}', "user"),
}


@pytest.mark.parametrize("case", HOSTILE_NOTES)
async def test_a_hostile_note_is_refused_by_the_name_of_its_field(lab: Lab, case: str) -> None:
    await lab.machine()
    body, field = HOSTILE_NOTES[case]
    sent = post("/api/v1/machines/rack4-07/note", body).replace(b"POST", b"PUT", 1)
    status, text = await exchange(lab, sent)
    assert status == 422
    assert json.loads(text)["errors"][0]["field"] == field


async def test_very_many_faults_are_told_briefly(lab: Lab) -> None:
    machines = [{"MachineID": "../x", "PowerCycleState": "?"}] * 3000
    body = json.dumps({"Machines": machines}).encode()
    status, text = await exchange(lab, post("/json/v1/powercycle/state/update", body))
    assert status == 400
    assert text.startswith("Machines.0.PowerCycleState: ")
    assert len(text) < 10_000


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_bad_request(lab: Lab, sent: bytes) -> None:
    status, _ = await exchange(lab, sent)
    assert status == 400


async def test_a_strange_method_is_refused(lab: Lab) -> None:
    status, _ = await exchange(lab, b"PROPFIND /api/v1/machines HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 405


async def test_a_client_that_goes_in_the_middle_of_a_body_is_no_error_of_ours(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(lab.url)
    for _ in range(5):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(post("/json/v1/machine/event/", event())[:-10])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    status, _ = await exchange(lab, post("/json/v1/machine/event/", event()))

    assert status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
