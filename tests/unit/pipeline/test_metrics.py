"""What each process shows to Prometheus."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from pipeline import metrics

OWN = {
    "writer": "machineserver_processor_events_processed_total",
    "relay": "labkeeper_outbox_age_seconds",
    "watchdog": "labkeeper_machines_marked_down_total",
    "facade": "sser_server_client_connections",
    "fleet-stats": "labkeeper_fleet_stats_told_until_seconds",
    "powercycle-agent": "labkeeper_power_ports_owed",
    "monitor": "test_machine_monitor_available",
}


@pytest.mark.parametrize("process", [*OWN, "simulator"])
def test_a_process_shows_its_own_metrics_and_the_common_ones_only(process: str) -> None:
    text = generate_latest(metrics.registry_of(process)).decode()
    shown = {name for name in OWN.values() if f"# HELP {name} " in text}
    assert shown == ({OWN[process]} if process in OWN else set())
    assert "# HELP labkeeper_transaction_retries_total " in text
    assert "# HELP python_info " in text


def test_single_metrics_can_be_asked_for_by_name() -> None:
    chosen = metrics.registry_of("relay").restricted_registry(["labkeeper_outbox_age_seconds"])
    assert [family.name for family in chosen.collect()] == ["labkeeper_outbox_age_seconds"]
