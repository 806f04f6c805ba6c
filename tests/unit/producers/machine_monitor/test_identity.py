from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from producers.machine_monitor.identity import machine_id, next_start_time

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def test_swarmings_id_comes_before_the_host_name() -> None:
    assert machine_id({"SWARMING_BOT_ID": "skia-e-linux-001"}, "other") == "skia-e-linux-001"


def test_without_it_the_host_name_is_the_id() -> None:
    assert machine_id({"SWARMING_BOT_ID": ""}, "rack-7.lab") == "rack-7.lab"


@pytest.mark.parametrize(
    ("host_name", "expected"), [("my host", "my-host"), ("_lab1", "lab1"), ("bärbel", "b-rbel")]
)
def test_a_host_name_is_made_valid(host_name: str, expected: str) -> None:
    assert machine_id({}, host_name) == expected


@pytest.mark.parametrize("host_name", ["", "___", "x" * 129])
def test_a_hopeless_host_name_says_what_to_set(host_name: str) -> None:
    with pytest.raises(Misconfigured, match="set SWARMING_BOT_ID"):
        machine_id({}, host_name)


def test_a_wrong_id_is_not_quietly_changed() -> None:
    with pytest.raises(Misconfigured, match="SWARMING_BOT_ID is 'a b'"):
        machine_id({"SWARMING_BOT_ID": "a b"}, "fine")


def test_a_run_starts_now_in_whole_milliseconds(tmp_path: Path) -> None:
    assert next_start_time(tmp_path / "start", now=NOW) == NOW.replace(microsecond=123000)


@pytest.mark.parametrize("passed", [timedelta(0), timedelta(microseconds=10), -timedelta(days=400)])
def test_a_later_run_starts_later_whatever_the_clock_says(tmp_path: Path, passed: timedelta) -> None:
    first = next_start_time(tmp_path / "start", now=NOW)
    second = next_start_time(tmp_path / "start", now=NOW + passed)
    third = next_start_time(tmp_path / "start", now=NOW + passed)
    assert (second, third) == (first + MILLISECOND, first + 2 * MILLISECOND)


def test_a_clock_that_went_on_is_believed(tmp_path: Path) -> None:
    next_start_time(tmp_path / "start", now=NOW)
    assert next_start_time(tmp_path / "start", now=NOW + timedelta(hours=1)) > NOW + timedelta(minutes=59)


def test_a_damaged_memory_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "start").write_text("garbage")
    assert next_start_time(tmp_path / "start", now=NOW) == NOW.replace(microsecond=123000)


def test_a_memory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be written"):
        next_start_time(tmp_path / "missing" / "start", now=NOW)
