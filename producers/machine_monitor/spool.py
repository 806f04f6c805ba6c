"""Events on disk that wait to be sent, in order. Survives a crash at any moment, and never fills the disk.

Each event is a file of its own, written whole or not at all. Too many events, or too many bytes: the oldest go, with a
line in the log. When the disk takes nothing (full, broken), an event waits in memory instead: a machine with a full disk
must not look dead.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from pipeline import logs
from pipeline.errors import Misconfigured
from producers.machine_monitor.files import write_whole
from schemas.ids import new_ulid

_SUFFIX: Final = ".event"
_PARKED: Final = "parked"
_PARKED_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much may wait."""

    events: int = 2880
    """One day at one event every 30 seconds."""
    size_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits."""

    number: int
    """Counts up over all runs."""
    body: bytes
    headers: Mapping[str, str]
    stamp: str = ""
    """Names the quarantine file that this event reports; empty for none."""


@dataclass(frozen=True, slots=True)
class _Head:
    """First line of a file; the rest is the body."""

    headers: dict[str, str]
    stamp: str
    size: int
    """Of the body, bytes."""


_head = TypeAdapter(_Head)


@dataclass(slots=True)
class _Place:
    size: int
    stamp: str
    in_memory: Waiting | None = None


class Spool:
    """A queue on disk, for one writer and one reader, each in a thread of its own."""

    def __init__(self, folder: Path, limits: SpoolLimits) -> None:
        """Take up what an earlier run left. Raises `Misconfigured` when the folder cannot be used."""
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        self._places: dict[int, _Place] = {}
        self._next = 0
        self.dropped = 0
        """Events given up since the start because too many waited."""
        try:
            (folder / _PARKED).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_up()
        except OSError as error:
            raise Misconfigured(f"the spool {folder} cannot be used: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._places)

    def stamps(self) -> frozenset[str]:
        """Quarantine files that waiting events report."""
        with self._lock:
            return frozenset(place.stamp for place in self._places.values() if place.stamp)

    def put(self, body: bytes, headers: Mapping[str, str], *, stamp: str = "") -> None:
        """Add an event behind all others. When this returns, a crash does not lose it (unless the disk is full)."""
        with self._lock:
            waiting = Waiting(self._next, body, headers, stamp)
            content = _written(waiting)
            self._next += 1
            place = _Place(len(content), stamp)
            try:
                write_whole(self._path(waiting.number), content)
            except OSError as error:
                logs.get_logger().warning("event waits in memory", reason=error.strerror or str(error))
                place.in_memory = waiting
            self._places[waiting.number] = place
            self._drop_oldest()

    def oldest(self) -> Waiting | None:
        """The event to send next; None when none waits. One that cannot be read any more is parked."""
        with self._lock:
            while self._places:
                number, place = next(iter(self._places.items()))
                if place.in_memory is not None:
                    return place.in_memory
                try:
                    return _read(number, self._path(number).read_bytes())
                except FileNotFoundError:
                    del self._places[number]
                except (OSError, ValueError) as error:
                    self._park(number, f"cannot be read: {error}")
            return None

    def remove(self, waiting: Waiting) -> None:
        """The event has been accepted."""
        with self._lock:
            self._forget(waiting.number)

    def park(self, waiting: Waiting, reason: str) -> None:
        """The event will never be accepted: put it aside for a person, with the reason, and go on."""
        with self._lock:
            self._park(waiting.number, reason)

    def _take_up(self) -> None:
        for half_written in self._folder.glob(".*.tmp"):
            half_written.unlink(missing_ok=True)
        for number, path in sorted(
            (int(path.stem), path) for path in self._folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal()
        ):
            self._places[number] = _Place(path.stat().st_size, _stamp(path))
            self._next = number + 1
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        total = sum(place.size for place in self._places.values())
        while len(self._places) > 1 and (
            len(self._places) > self._limits.events or total > self._limits.size_bytes
        ):
            number, place = next(iter(self._places.items()))
            total -= place.size
            self._forget(number)
            self.dropped += 1
            logs.get_logger().warning("oldest event dropped", number=number, waiting=len(self._places))

    def _forget(self, number: int) -> None:
        if self._places.pop(number, None) is None:
            return
        try:
            self._path(number).unlink(missing_ok=True)
        except OSError as error:  # it will be sent again after a restart, which is harmless
            logs.get_logger().warning("sent event stays on disk", reason=error.strerror or str(error))

    def _park(self, number: int, reason: str) -> None:
        parked = self._folder / _PARKED / f"{new_ulid()}{_SUFFIX}"
        logs.get_logger().error("event parked", number=number, file=str(parked), reason=reason)
        place = self._places.pop(number, None)
        try:
            if place is not None and place.in_memory is not None:
                write_whole(parked, _written(place.in_memory))
            else:
                self._path(number).replace(parked)
            write_whole(parked.with_suffix(".reason"), reason.encode())
            self._thin_out_parked()
        except OSError as error:
            logs.get_logger().warning("parked event is lost", reason=error.strerror or str(error))

    def _thin_out_parked(self) -> None:
        parked = sorted((self._folder / _PARKED).glob(f"*{_SUFFIX}"))
        for old in parked[:-_PARKED_LIMIT]:
            old.unlink(missing_ok=True)
            old.with_suffix(".reason").unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:020}{_SUFFIX}"


def _written(waiting: Waiting) -> bytes:
    head = {"headers": dict(waiting.headers), "stamp": waiting.stamp, "size": len(waiting.body)}
    return json.dumps(head).encode() + b"\n" + waiting.body


def _read(number: int, content: bytes) -> Waiting:
    """Raises ValueError when the content is not what was written."""
    line, _, body = content.partition(b"\n")
    head = _parse_head(line)
    if len(body) != head.size:
        raise ValueError(f"holds {len(body)} bytes of {head.size}")
    return Waiting(number, body, head.headers, head.stamp)


def _parse_head(line: bytes) -> _Head:
    try:
        return _head.validate_json(line)
    except ValidationError as error:
        raise ValueError("its first line is damaged") from error


def _stamp(path: Path) -> str:
    with path.open("rb") as file:
        line = file.readline()
    try:
        return _parse_head(line.rstrip(b"\n")).stamp
    except ValueError:
        return ""  # whoever reads the whole event parks it
