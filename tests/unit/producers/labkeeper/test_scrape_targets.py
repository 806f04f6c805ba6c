"""The ports and the file by which Prometheus finds a lab's metrics."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.clock import ManualClock
from producers.labkeeper.scrape_targets import ScrapeTargets
from producers.labkeeper.screen import Screen

OUTGOING_FROM = 32768
"""Where the ports of outgoing connections begin on Linux; on macOS it is higher."""
SCREEN = Screen(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), verbose=False)


def test_the_file_lists_every_role_with_its_port(tmp_path: Path) -> None:
    file = tmp_path / "metrics-targets.json"
    targets = ScrapeTargets(file, SCREEN)
    writer, facade = targets.port_of("writer"), targets.port_of("facade")

    assert writer != facade
    assert json.loads(file.read_text()) == [
        {"targets": [f"127.0.0.1:{writer}"], "labels": {"service": "writer"}},
        {"targets": [f"127.0.0.1:{facade}"], "labels": {"service": "facade"}},
    ]
    targets.close()
    assert list(tmp_path.iterdir()) == []


def test_a_role_keeps_its_port_when_it_is_started_again(tmp_path: Path) -> None:
    targets = ScrapeTargets(tmp_path / "targets.json", SCREEN)

    assert targets.port_of("writer") == targets.port_of("writer")


def test_no_outgoing_connection_can_take_a_roles_port_before_the_role_listens(tmp_path: Path) -> None:
    targets = ScrapeTargets(tmp_path / "targets.json", SCREEN)
    ports = {targets.port_of(f"role-{number}") for number in range(50)}

    assert len(ports) == 50
    assert max(ports) < OUTGOING_FROM


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    targets = ScrapeTargets(file, SCREEN)
    port = targets.port_of("writer")

    with socket.create_server(("127.0.0.1", port)):
        other = targets.port_of("writer")

    assert other != port
    assert json.loads(file.read_text())[0]["targets"] == [f"127.0.0.1:{other}"]


def test_a_file_that_cannot_be_written_is_told_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ScrapeTargets(tmp_path / "gone" / "targets.json", SCREEN).port_of("writer") > 0

    assert "cannot write" in capsys.readouterr().out
