"""Health, metrics, the page's files, the documents."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from consumers.facade.static_files import PAGE_POLICY
from tests.unit.consumers.facade.broken import AwayBroker, AwayStore
from tests.unit.consumers.facade.lab import NOW, Lab, running


async def document_at(lab: Lab, path: str) -> Any:
    async with lab.http.get(path) as response:
        return json.loads(await response.read())


async def test_a_server_with_store_broker_and_machines_is_ready(lab: Lab) -> None:
    await lab.machine()
    await lab.store.record("writer", {"0": NOW}, now=NOW)
    assert await document_at(lab, "/readyz") == {
        "ready": True,
        "store": "ok",
        "broker": "ok",
        "machines": "ok",
        "writer": "ok",
    }


async def test_a_lab_without_a_writer_is_told_of_and_the_server_is_ready_all_the_same(lab: Lab) -> None:
    await lab.machine()
    never = await document_at(lab, "/readyz")
    await lab.store.record("writer", {"0": NOW, "1": NOW - timedelta(hours=1)}, now=NOW)
    lab.clock.advance(timedelta(seconds=70))
    silent = await document_at(lab, "/readyz")

    assert (never["ready"], never["writer"]) == (True, "never seen")
    assert (silent["ready"], silent["writer"]) == (True, "last seen 70 s ago")


async def test_a_server_without_them_is_alive_but_not_ready() -> None:
    async with running(store=AwayStore(), broker=AwayBroker()) as lab:
        async with lab.http.get("/readyz") as response:
            assert response.status == 503
            parts = json.loads(await response.read())
        assert parts == {
            "ready": False,
            "store": "out of reach",
            "broker": "out of reach",
            "machines": "not loaded yet",
            "writer": "never seen",
        }
        async with lab.http.get("/healthz") as response:
            assert response.status == 200


async def samples(lab: Lab) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    async with lab.http.get("/metrics") as response:
        assert response.status == 200
        text = await response.text()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_tell_of_each_machine(lab: Lab) -> None:
    await lab.machine(
        "m",
        battery=55,
        device_kind="android",
        temperature={"cpu": 41.5},
        dimensions={"id": ["m"], "os": ["Android", "Android11"], "device_type": ["redfin"]},
        recovering="Battery low",
        recovery_start=NOW - timedelta(seconds=90),
        is_quarantined=True,
        running_swarming_task=True,
        down_since=NOW,
    )
    found = await samples(lab)
    tags = (("device_type", "redfin"), ("id", "m"), ("os", "Android11"))
    prefix = "machine_processor_device_"
    assert found[prefix + "battery_level", (("machine", "m"),)] == 55
    assert found[prefix + "temperature_c", (("machine", "m"), ("sensor", "cpu"))] == 41.5
    states = {
        state: found[prefix + "quarantine_state", (*tags, ("state", state))]
        for state in ("Maintenance", "Quarantined", "Recovering")
    }
    assert states == {"Maintenance": 0, "Quarantined": 1, "Recovering": 1}
    assert found[prefix + "maintenance", tags] == 1
    assert found[prefix + "time_in_recovery_mode_s", tags] == 90
    assert found["machine_processor_running_swarming_task", tags] == 1
    assert found["labkeeper_machine_down", tags] == 1


async def test_a_machine_that_is_gone_is_gone_from_the_metrics(lab: Lab) -> None:
    await lab.machine("m")
    await lab.delete("m")
    assert not any(("machine", "m") in labels for _, labels in await samples(lab))


async def test_metrics_of_machines_can_be_switched_off() -> None:
    async with running(machine_metrics=False) as lab:
        await lab.machine("m")
        assert not any(("machine", "m") in labels for _, labels in await samples(lab))


async def test_requests_are_counted_by_route_not_by_path(lab: Lab) -> None:
    await document_at(lab, "/api/v1/machines/m-1")
    await document_at(lab, "/api/v1/machines/m-2")
    labels = (("method", "GET"), ("route", "/api/v1/machines/{id:[^/]*}"), ("status", "404"))
    assert (await samples(lab))["labkeeper_http_request_seconds_count", labels] >= 2


async def test_the_facade_records_that_it_is_at_work(lab: Lab) -> None:
    (progress,) = await lab.store.progress()
    assert progress.service == "facade"
    assert progress.caught_up_to == NOW


async def test_a_facade_that_cannot_take_events_does_not_say_that_it_is_at_work() -> None:
    async with running(broker=AwayBroker(), progress_every=timedelta(seconds=0.01)) as lab:
        await document_at(lab, "/readyz")
        assert await lab.store.progress() == []


async def test_progress_goes_on() -> None:
    async with running(progress_every=timedelta(seconds=0.01)) as lab:
        later = NOW + timedelta(seconds=5)
        lab.clock.advance(timedelta(seconds=5))
        async with asyncio.timeout(60):
            while [each.seen_at for each in await lab.store.progress()] != [later]:
                await asyncio.sleep(0.005)


# --- the page ----------------------------------------------------------------------------------------------------------
async def test_the_page_is_served_with_a_strict_policy_and_revalidated(lab: Lab) -> None:
    async with lab.http.get("/") as response:
        assert response.content_type == "text/html"
        assert response.headers["Content-Security-Policy"] == PAGE_POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-cache"
        etag = response.headers["ETag"]
        page = await response.text()
    async with lab.http.get("/", headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    assert "unsafe" not in PAGE_POLICY
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        async with lab.http.get(path) as response:
            assert response.status == 200, path


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/static/app.js", "text/javascript"),
        ("/static/base.css", "text/css"),
        ("/dist/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_have_their_types(lab: Lab, path: str, content_type: str) -> None:
    async with lab.http.get(path) as response:
        assert (response.status, response.content_type, response.charset) == (200, content_type, "utf-8")


@pytest.mark.parametrize(
    "path", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "nothing.js", ""]
)
async def test_no_other_file_can_be_reached(lab: Lab, path: str) -> None:
    async with lab.http.get(f"/static/{path}") as response:
        assert response.status == 404


async def test_answers_of_the_api_are_neither_kept_nor_sniffed_nor_framed(lab: Lab) -> None:
    async with lab.http.get("/api/v1/whoami") as response:
        headers = response.headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Server"] == "labkeeper"


# --- documents ---------------------------------------------------------------------------------------------------------
async def test_the_api_is_described_route_by_route(lab: Lab) -> None:
    api = await document_at(lab, "/openapi.json")
    assert api["openapi"] == "3.1.0"
    note = api["paths"]["/api/v1/machines/{id}/note"]
    assert set(note) == {"put", "delete"}
    assert note["put"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/NoteBody"
    }
    assert {"200", "401", "403", "404", "412", "413", "415", "422", "503"} == set(note["put"]["responses"])
    parameters = {each["name"]: each for each in api["paths"]["/api/v1/machines"]["get"]["parameters"]}
    assert parameters["limit"]["schema"] == {"default": 100, "maximum": 1000, "minimum": 1, "type": "integer"}
    assert parameters["q"]["description"].startswith("Words; ")
    assert "/json/v1/machine/event/" in api["paths"]
    identifiers = [each["operationId"] for path in api["paths"].values() for each in path.values()]
    assert len(identifiers) == len(set(identifiers))


async def test_all_that_the_description_refers_to_is_there_and_is_a_schema(lab: Lab) -> None:
    async with lab.http.get("/openapi.json") as response:
        text = await response.text()
    api = json.loads(text)
    for name in re.findall(r'"\$ref":"#/components/schemas/(\w+)"', text):
        assert name in api["components"]["schemas"]
    assert '"$ref":"#/$defs' not in text
    for schema in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_the_docs_page_needs_nothing_from_elsewhere(lab: Lab) -> None:
    async with lab.http.get("/docs") as response:
        page = await response.text()
        assert response.headers["Content-Security-Policy"] == PAGE_POLICY
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        async with lab.http.get(path) as response:
            assert response.status == 200, path
    assert "<style" not in page
    assert "style=" not in page
