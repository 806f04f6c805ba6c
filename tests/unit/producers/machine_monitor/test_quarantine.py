from __future__ import annotations

import os
from pathlib import Path

import pytest

from producers.machine_monitor.quarantine import QuarantineFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "machine-1.force_quarantine"


@pytest.fixture
def quarantine(tmp_path: Path) -> QuarantineFile:
    return QuarantineFile(tmp_path, "machine-1")


def test_without_a_file_nothing_waits(quarantine: QuarantineFile) -> None:
    assert quarantine.stamp() == ""


def test_the_file_goes_when_its_report_is_accepted(quarantine: QuarantineFile, file: Path) -> None:
    file.touch()
    quarantine.accepted(quarantine.stamp())
    assert not file.exists()
    assert quarantine.stamp() == ""


def test_a_file_written_anew_is_another_one(quarantine: QuarantineFile, file: Path) -> None:
    file.touch()
    first = quarantine.stamp()
    os.utime(file, ns=(1, 1))
    quarantine.accepted(first)
    assert file.exists()
    assert quarantine.stamp() not in {"", first}


def test_events_without_a_report_leave_the_file(quarantine: QuarantineFile, file: Path) -> None:
    file.touch()
    quarantine.accepted("")
    assert file.exists()


def test_a_file_that_cannot_be_removed_is_not_reported_again(quarantine: QuarantineFile, file: Path) -> None:
    file.mkdir()
    quarantine.accepted(quarantine.stamp())
    assert file.exists()
    assert quarantine.stamp() == ""
