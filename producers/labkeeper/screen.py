"""What `labkeeper up` shows: a few lines of its own, and of its children only what somebody should look at."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from typing import Any, Final

import click

from pipeline.clock import Clock

_CALM: Final = frozenset({"debug", "info"})
_ALARMING: Final = ("WARNING ", "ERROR ", "CRITICAL ")
"""How lines of Python's own logging begin; see `pipeline.logs`."""
_KNOWN: Final = frozenset({"event", "level", "timestamp", "service", "exception"})
_COLOURS: Final = {"warning": "yellow", "error": "red", "critical": "red"}


class Screen:
    """Standard output, as long as somebody reads it. A closed terminal or pipe is no reason to stop."""

    def __init__(self, clock: Clock, *, verbose: bool) -> None:
        self._clock = clock
        self._verbose = verbose
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def say(self, text: str, *, colour: str | None = None) -> None:
        """A line of our own."""
        try:
            click.secho(text, fg=colour, reset=colour is not None)
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def done(self, text: str) -> None:
        """A step of the start that is done, with the time it took to come here."""
        self.say(f"  {text:<60} {self.seconds:5.1f} s")

    def complain(self, text: str) -> None:
        """Something that somebody should look at."""
        self.say(f"{self._now()} {text}", colour="yellow")

    def relay(self, role: str, line: str) -> None:
        """A line of a child's log: shown if it asks for attention, or if everything is wanted."""
        entry = _entry(line)
        if entry is not None:
            level = str(entry.get("level", ""))
            if self._verbose or level not in _CALM:
                self.say(f"{self._now()} {role}: {text_of(entry)}", colour=_COLOURS.get(level))
        elif self._verbose or line.startswith(
            _ALARMING
        ):  # the rest is a traceback, whose end the supervisor tells
            self.say(f"{self._now()} {role}: {line}", colour="yellow")

    def _now(self) -> str:
        moment: datetime = self._clock.now().astimezone()
        return f"{moment:%H:%M:%S}"


def _entry(line: str) -> dict[str, Any] | None:
    """A line of structured log; None when it is something else, such as a part of a traceback."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def asks_for_attention(line: str) -> bool:
    """Whether a line of a log may tell why a process ended: it is no report of things that go well."""
    entry = _entry(line)
    return entry is None or str(entry.get("level", "")) not in _CALM


def as_text(line: str) -> str:
    """A line of a log for people, whatever kind it is."""
    entry = _entry(line)
    return line if entry is None else text_of(entry)


def text_of(entry: dict[str, Any]) -> str:
    """A log entry for people: `store away: reason=…`."""
    fields = " ".join(f"{key}={_value(value)}" for key, value in entry.items() if key not in _KNOWN)
    text = str(entry["event"]).replace("_", " ") + (f": {fields}" if fields else "")
    return f"{text}\n{entry['exception']}" if "exception" in entry else text


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text, ensure_ascii=False) if " " in text and isinstance(value, str) else text
