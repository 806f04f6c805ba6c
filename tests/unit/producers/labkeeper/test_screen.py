"""What `labkeeper up` shows of what its children log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from pipeline.clock import ManualClock
from producers.labkeeper.screen import Screen, as_text

INFO = json.dumps({"event": "lab_simulated", "level": "info", "machines": 5})
WARNING = json.dumps(
    {"event": "store_away", "level": "warning", "reason": "no answer", "retry_in_s": 0.5, "service": "writer"}
)


@pytest.fixture
def calm() -> Screen:
    return Screen(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), verbose=False)


@pytest.fixture
def verbose() -> Screen:
    return Screen(ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), verbose=True)


def test_what_goes_well_is_not_shown(calm: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    calm.relay("simulator", INFO)

    assert capsys.readouterr().out == ""


def test_a_warning_is_shown_with_its_role_in_plain_words(
    calm: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    calm.relay("writer", WARNING)

    assert capsys.readouterr().out[9:] == 'writer: store away: reason="no answer" retry_in_s=0.5\n'


def test_a_traceback_is_left_to_the_log(calm: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    calm.relay("writer", "Traceback (most recent call last):")
    calm.relay("writer", '  File "x.py", line 1')

    assert capsys.readouterr().out == ""


def test_a_librarys_warning_is_shown(calm: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    calm.relay("facade", "WARNING aiohttp: odd")

    assert "facade: WARNING aiohttp: odd" in capsys.readouterr().out


def test_everything_is_shown_when_asked_for(verbose: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    verbose.relay("simulator", INFO)
    verbose.relay("simulator", "anything")

    shown = capsys.readouterr().out
    assert "simulator: lab simulated: machines=5" in shown
    assert "simulator: anything" in shown


def test_a_line_that_only_looks_structured_is_text() -> None:
    assert as_text("[1, 2]") == "[1, 2]"
    assert as_text('{"a": 1}') == '{"a": 1}'


def test_nobody_reading_is_no_reason_to_stop() -> None:
    text = """
from pipeline.clock import SystemClock
from producers.labkeeper.screen import Screen
import sys
screen = Screen(SystemClock(), verbose=False)
sys.stdin.readline()
for _ in range(3):
    screen.say("hello")
sys.stderr.write("went on")
"""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    ) as process:
        os.close(writing)
        os.close(reading)
        _, said = process.communicate(b"\n", timeout=60)

    assert (process.returncode, said) == (0, b"went on")
