"""What is about to be done to a port, on disk before it is done: after a crash, every port that was switched off is found again.

One file a command, `<command id>.power`, in one directory that the agent and the `powercycle` command of this host share. It is
made in its full size and forced to disk before anything is switched; whatever happens later is written into that space, so
a disk that is full refuses a command and never stops one that has begun. Each line has a checksum; lines are read up to the
first that has none or a wrong one. Whoever works on a command holds its file locked (`flock`): a file that has something
left to do and is not locked belonged to a process that died, and whoever finds it takes it over.

It refuses to guess: a file that cannot be read is set aside with a line in the log, and never stops anybody.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final, Self

from pydantic import Field, ValidationError

from consumers.powercycle_agent.sharing import make_directory, share
from pipeline import logs
from pipeline.errors import LabkeeperError
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerStatus
from schemas.wire import Bool, WireModel

SUFFIX: Final = ".power"
UNFINISHED_SUFFIX: Final = ".new"
UNREADABLE_SUFFIX: Final = ".unreadable"
KEPT_FOR: Final = timedelta(days=1)
"""After it has expired a command is remembered for so long, so that one that is delivered again is not carried out again."""

_SIZE: Final = 32 * 1024
_LONGEST_INTENT: Final = 20 * 1024
_LONGEST_TEXT: Final = 1000
"""Characters. With the longest intent and every status, that fits."""
_ABANDONED_S: Final = 300.0
"""A file that has not got its real name for so long is nobody's."""
_STAGES: Final = (PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON)

log = logs.get_logger()


class JournalUnwritable(LabkeeperError):
    """No room, or no right, to write the intent: nothing may be switched."""


class AlreadyKnown(LabkeeperError):
    """The journal has this command: it is being carried out, or has been."""


class Intent(WireModel):
    """What is going to be done, and where."""

    command: PowerCommand
    agent: str
    controller: str
    """`<kind>/<label>`."""
    port: str
    brings_command: Bool = False
    """The store has not seen the command: what is told of it brings it along."""
    before: list[PowerMoment] = Field(default_factory=list)
    """How far another agent had come with it."""
    restores: Bool = False
    """An agent of another name began it, and has gone: the port is to be on, and nothing is to be switched off."""


class _Line(WireModel):
    """What has happened since."""

    moment: PowerMoment | None = None
    settled: Bool = False
    reported: Bool = False


class Entry:
    """One command in the journal. Whoever has it holds its file locked until `release`.

    Steps, debts and reports are written from threads of their own: one at a time, so that none writes over another, or
    closes a file that by then is somebody else's.
    """

    def __init__(self, path: Path, descriptor: int | None, intent: Intent, end: int) -> None:
        self.intent = intent
        self.moments: list[PowerMoment] = []
        """What we have done, in order."""
        self.is_settled = False
        """The port is on again, or was never switched, or is to be off."""
        self.is_reported = False
        """The lab knows how it ended."""
        self.path = path
        self._descriptor: int | None = descriptor
        self._end = end
        self._guard = Lock()

    @property
    def command(self) -> PowerCommand:
        """What was asked for."""
        return self.intent.command

    @property
    def end(self) -> PowerMoment | None:
        """How it ended; None: it has not."""
        last = self.moments[-1] if self.moments else None
        return None if last is None or last.status.is_pending else last

    @property
    def owes(self) -> bool:
        """Whether the port may be off although it is to be on."""
        return self.command.action is PowerAction.CYCLE and not self.is_settled

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.end is not None and self.is_reported and not self.owes

    def moment(self, status: PowerStatus) -> PowerMoment | None:
        """When it got so far, whoever brought it there."""
        return next(
            (moment for moment in (*self.moments, *self.intent.before) if moment.status is status), None
        )

    @property
    def reached(self) -> PowerStatus:
        """How far the port was brought: accepted, off or on."""
        return next((stage for stage in reversed(_STAGES) if self.moment(stage)), PowerStatus.ACCEPTED)

    def record(self, moment: PowerMoment, *, settles: bool = False) -> None:
        """Keep a step, on disk before this returns; `settles`: the port owes nothing from now on."""
        with self._guard:
            self.moments.append(moment)
            self.is_settled = self.is_settled or settles
            self._write(_Line(moment=_cut(moment), settled=settles))

    def settle(self) -> None:
        """The port owes nothing any more."""
        with self._guard:
            self.is_settled = True
            self._write(_Line(settled=True))
            self._close_if_over()

    def mark_reported(self) -> None:
        """The lab knows the end."""
        with self._guard:
            self.is_reported = True
            self._write(_Line(reported=True))
            self._close_if_over()

    def release(self) -> None:
        """Let go of it, done or not."""
        with self._guard:
            self._close()

    def _close_if_over(self) -> None:
        if self.is_over and self._descriptor is not None:
            with suppress(OSError):  # gives space back, no more
                os.ftruncate(self._descriptor, self._end)
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, line: _Line) -> None:
        """A disk that fails now must not keep a port off: it is told, and the work goes on."""
        if self._descriptor is None:
            return
        written = _with_checksum(line)
        try:
            _append(self._descriptor, written, self._end)
        except OSError as error:
            log.error("journal_not_written", file=str(self.path), reason=str(error))  # noqa: TRY400  # no bug
            return
        self._end += len(written)

    @classmethod
    def read(cls, path: Path, content: bytes, descriptor: int | None = None) -> Self:
        """What the file says; without a descriptor, to look at only. Raises ValueError when it is none of ours, or damaged before its first end of line."""
        lines = _lines(content)
        first = next(lines, None)
        if first is None:
            raise ValueError("its first line is damaged")
        entry = cls(path, descriptor, Intent.model_validate_json(first[0]), first[1])
        for text, end in lines:
            entry._end = end
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:  # of a newer version; what the others say still counts
                continue
            entry.is_settled = entry.is_settled or line.settled
            entry.is_reported = entry.is_reported or line.reported
            if line.moment is not None:
                entry.moments.append(line.moment)
        return entry


class Journal:
    """The directory. Its methods touch the disk: call them in a thread. Safe to share between processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begin(self, intent: Intent, *moments: PowerMoment) -> Entry:
        """Write down what is going to be done, with room for all that may follow; return once it is safe on disk.

        Raises `JournalUnwritable`, with nothing left behind, and `AlreadyKnown`.
        """
        path = self._path(intent.command.id)
        if self.knows(intent.command.id):
            raise AlreadyKnown(f"command {intent.command.id} is in the journal already")
        intent = intent.model_copy(update={"before": [_cut(moment) for moment in intent.before]})
        first = _with_checksum(intent)
        if len(first) > _LONGEST_INTENT:
            raise JournalUnwritable("the command is too long for the journal: shorten who asks, and why")
        text = first + b"".join(_with_checksum(_Line(moment=_cut(moment))) for moment in moments)
        try:
            make_directory(self._directory)
            descriptor = self._create(path, text.ljust(_SIZE, b"\0"))
        except OSError as error:
            raise JournalUnwritable(
                f"the journal in {self._directory} cannot be written ({error.strerror}): make room, or give another --state-dir"
            ) from error
        entry = Entry(path, descriptor, intent, len(text))
        entry.moments.extend(moments)
        return entry

    def knows(self, command_id: str) -> bool:
        """Whether the command has been begun here, not too long ago."""
        return os.path.exists(self._path(command_id))  # noqa: PTH110  # a directory that is closed to us knows nothing

    def ended(self, command_id: str) -> Entry | None:
        """A command that is over, to tell of it once more; None: there is none, or it is not over. Not locked, to look at only."""
        path = self._path(command_id)
        try:
            with path.open("rb") as file:
                entry = Entry.read(path, file.read(_SIZE))
        except (OSError, ValueError):
            return None
        return entry if entry.is_over else None

    def owing(self) -> list[Entry]:
        """Commands whose port may be off and should be on, also those under way. Not locked, to look at only."""
        found = []
        with suppress(OSError):
            for path in sorted(self._directory.glob(f"*{SUFFIX}")):
                with suppress(OSError, ValueError), path.open("rb") as file:
                    found.append(Entry.read(path, file.read(_SIZE)))
        return [entry for entry in found if entry.owes]

    def adopt(self, *, now: datetime) -> list[Entry]:
        """Take what processes that died have left to do, oldest first; drop what is over and past its time.

        Raises `JournalUnwritable` when the directory cannot even be listed.
        """
        try:
            make_directory(self._directory)
            paths = sorted(self._directory.iterdir())
        except OSError as error:
            raise JournalUnwritable(
                f"the journal in {self._directory} cannot be read: {error.strerror}"
            ) from error
        found = []
        for path in paths:
            if path.suffix == UNFINISHED_SUFFIX:
                _drop_if_abandoned(path)
            elif path.suffix == SUFFIX:
                entry = self._adopt(path, now)
                if entry is not None:
                    found.append(entry)
        return found

    def _adopt(self, path: Path, now: datetime) -> Entry | None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            log.error("journal_not_read", file=str(path), reason=str(error))  # noqa: TRY400  # no bug
            return None
        if not _locked(descriptor):
            os.close(descriptor)
            return None
        try:
            entry = Entry.read(path, _read_all(descriptor), descriptor)
        except (OSError, ValueError) as error:
            os.close(descriptor)
            _set_aside(path, error)
            return None
        if not entry.is_over:
            return entry
        entry.release()
        if now > entry.command.expires_at + KEPT_FOR:
            path.unlink(missing_ok=True)
        return None

    def _create(self, path: Path, content: bytes) -> int:
        unfinished = path.with_suffix(UNFINISHED_SUFFIX)
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            share(descriptor, self._directory)
            _write_all(descriptor, content, 0)
            os.fsync(descriptor)
            unfinished.rename(path)
            _sync(self._directory)
        except OSError:
            os.close(descriptor)
            for left_behind in (unfinished, path):
                with suppress(OSError):
                    left_behind.unlink(missing_ok=True)
            raise
        return descriptor

    def _path(self, command_id: str) -> Path:
        return self._directory / f"{command_id}{SUFFIX}"


def _cut(moment: PowerMoment) -> PowerMoment:
    return moment.model_copy(update={"text": moment.text[:_LONGEST_TEXT]})


def _with_checksum(line: WireModel) -> bytes:
    text = line.model_dump_json().encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _lines(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Each sound line from the beginning, and where it ends."""
    start = 0
    while (stop := content.find(b"\n", start)) >= 0:
        checksum, _, text = content[start:stop].partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            return
        start = stop + 1
        yield text, start


def _read_all(descriptor: int) -> bytes:
    content = b""
    while piece := os.pread(descriptor, _SIZE, len(content)):
        content += piece
        if len(content) > _SIZE:
            raise ValueError("it is too large")
    return content


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], offset + written)


def _append(descriptor: int, written: bytes, offset: int) -> None:
    if offset + len(written) > _SIZE:
        raise OSError(errno.ENOSPC, "the file is full")
    _write_all(descriptor, written, offset)
    os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _drop_if_abandoned(path: Path) -> None:
    """Nothing was switched for it: that begins only when the file has its real name."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            path.unlink()


def _set_aside(path: Path, error: Exception) -> None:
    reason = f"{error.error_count()} fields are wrong" if isinstance(error, ValidationError) else str(error)
    log.error(
        "journal_unreadable",
        file=str(path),
        reason=reason,
        note="look whether its machine has power; the file is kept beside the others as .unreadable",
    )
    with suppress(OSError):
        path.rename(path.with_suffix(UNREADABLE_SUFFIX))
