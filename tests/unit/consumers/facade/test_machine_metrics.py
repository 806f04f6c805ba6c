"""Gauges of single machines."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import metrics
from tests.unit.consumers.facade.lab import NOW, Lab

TAGS = {"id": "m", "os": "", "device_type": ""}


async def scraped(lab: Lab) -> str:
    async with lab.http.get("/metrics") as response:
        assert response.status == 200
        return await response.text()


async def values(lab: Lab, name: str) -> list[float]:
    """Values of this gauge of machine m."""
    return [
        sample.value
        for family in text_string_to_metric_families(await scraped(lab))
        for sample in family.samples
        if sample.name == name and sample.labels in (TAGS, {"machine": "m"})
    ]


async def test_the_old_maintenance_gauge_tells_of_recovery_and_ours_of_maintenance_mode(lab: Lab) -> None:
    await lab.machine("m", recovering="Battery low.", recovery_start=NOW - timedelta(seconds=1.7))
    assert await values(lab, "machine_processor_device_maintenance") == [1]
    assert await values(lab, "labkeeper_machine_maintenance_mode") == [0]
    assert await values(lab, metrics.MACHINE_RECOVERY_SECONDS) == [1]
    await lab.machine("m", recovering="", maintenance_mode="jo 2026-03-01T12:00:00Z")
    assert await values(lab, "machine_processor_device_maintenance") == [0]
    assert await values(lab, "labkeeper_machine_maintenance_mode") == [1]


@pytest.mark.parametrize(
    ("kind", "battery", "shown"),
    [
        ("android", 55, [55]),
        ("ios", 0, [0]),
        ("android", -99, []),
        ("chromeos", 0, []),
        ("standalone", 0, []),
        ("", 0, []),
    ],
)
async def test_only_a_battery_that_could_be_read_is_shown(
    lab: Lab, kind: str, battery: int, shown: list[float]
) -> None:
    await lab.machine("m", device_kind=kind, battery=battery)
    assert await values(lab, metrics.MACHINE_BATTERY) == shown


async def test_the_facade_shows_no_zeros_of_what_others_count(lab: Lab) -> None:
    text = await scraped(lab)
    assert "machineserver_processor_events_processed" not in text
    assert "labkeeper_outbox_age_seconds" not in text
    assert "labkeeper_machines_marked_down" not in text
    assert "sser_server_client_connections" in text
    assert "process_resident_memory_bytes" in text
