"""The journal keeps what is owed to a port, through crashes, damage and full disks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import zlib
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.powercycle_agent.journal import (
    KEPT_FOR,
    AlreadyKnown,
    Entry,
    Intent,
    Journal,
    JournalUnwritable,
)
from schemas.power import PowerAction, PowerMoment, PowerStatus
from tests.small_disk import small_disk
from tests.unit.consumers.powercycle_agent.fake_power import START, order

LATER = START + timedelta(seconds=5)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def intent(**options: object) -> Intent:
    command = order(**options)  # type: ignore[arg-type]  # passed through
    return Intent(command=command, agent="rack4", controller="fake/rack4", port="1")


def moment(status: PowerStatus, text: str = "") -> PowerMoment:
    return PowerMoment(status=status, at=LATER, text=text)


def begun(journal: Journal, **options: object) -> Entry:
    return journal.begin(intent(**options), moment(PowerStatus.ACCEPTED))


def only_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "journal").iterdir()
    return path


def test_whoever_finds_a_command_of_a_process_that_died_knows_how_far_it_was(journal: Journal) -> None:
    entry = begun(journal)
    entry.record(moment(PowerStatus.OFF))
    entry.release()

    (found,) = journal.adopt(now=LATER)

    assert found.intent == entry.intent
    assert found.moments == entry.moments
    assert found.reached is PowerStatus.OFF
    assert found.owes
    assert found.end is None
    found.release()


def test_what_is_written_is_on_disk_before_anything_goes_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The computer may lose its power together with the machine: what only it remembers is gone then."""
    happened: list[str] = []
    synced, renamed = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        synced(descriptor)
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        lines = 0 if is_directory else os.pread(descriptor, 1 << 16, 0).count(b"\n")
        happened.append("directory" if is_directory else f"{lines} lines")

    def rename(path: Path, target: Path) -> Path:
        happened.append("its name")
        return renamed(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)

    entry = begun(journal)
    assert happened == ["2 lines", "its name", "directory"]
    entry.record(moment(PowerStatus.OFF))
    assert happened[3:] == ["3 lines"]
    entry.record(moment(PowerStatus.ON), settles=True)
    assert happened[4:] == ["4 lines"]


def test_a_command_that_somebody_works_on_is_left_alone(journal: Journal) -> None:
    entry = begun(journal)

    assert journal.adopt(now=LATER) == []
    entry.release()


def test_a_command_in_the_journal_is_not_begun_again_while_it_may_be_delivered_again(
    journal: Journal,
) -> None:
    entry = begun(journal)
    entry.record(moment(PowerStatus.DONE), settles=True)
    entry.mark_reported()
    expires_at = entry.command.expires_at

    assert journal.adopt(now=expires_at + KEPT_FOR) == []
    assert journal.knows(entry.command.id)
    with pytest.raises(AlreadyKnown):
        journal.begin(entry.intent)
    journal.adopt(now=expires_at + KEPT_FOR + timedelta(seconds=1))
    assert not journal.knows(entry.command.id)


def test_an_end_that_was_not_reported_is_found_again_however_old_it_is(journal: Journal) -> None:
    entry = begun(journal)
    entry.record(moment(PowerStatus.DONE), settles=True)
    entry.release()

    (found,) = journal.adopt(now=START + timedelta(days=400))

    assert found.end is not None
    assert not found.owes
    found.mark_reported()
    assert journal.adopt(now=START + timedelta(days=400)) == []


def test_a_port_that_stays_off_is_never_forgotten(journal: Journal) -> None:
    entry = begun(journal)
    entry.record(moment(PowerStatus.FAILED, "the switch is dead"))
    entry.mark_reported()
    entry.release()

    (found,) = journal.adopt(now=START + timedelta(days=400))
    assert found.owes

    found.settle()
    assert journal.adopt(now=START + timedelta(days=400)) == []


def test_a_command_that_is_over_takes_little_room(journal: Journal, tmp_path: Path) -> None:
    entry = begun(journal)
    before = only_file(tmp_path).stat().st_size
    entry.record(moment(PowerStatus.DONE), settles=True)
    entry.mark_reported()

    assert only_file(tmp_path).stat().st_size < 1000 < before
    ended = journal.ended(entry.command.id)
    assert ended is not None
    assert ended.moments == entry.moments


@pytest.mark.parametrize("lost", range(1, 40, 3))
def test_a_line_that_was_not_written_whole_did_not_happen(
    journal: Journal, tmp_path: Path, lost: int
) -> None:
    entry = begun(journal)
    entry.record(moment(PowerStatus.OFF))
    entry.release()
    path = only_file(tmp_path)
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    path.write_bytes(content[: end - lost] + b"\0" * (len(content) - end + lost))

    (found,) = journal.adopt(now=LATER)

    assert found.reached is PowerStatus.ACCEPTED
    assert found.owes
    found.record(moment(PowerStatus.ON), settles=True)
    found.release()
    (again,) = journal.adopt(now=LATER)
    assert again.reached is PowerStatus.ON
    again.release()


def test_a_line_that_a_disk_has_damaged_did_not_happen(journal: Journal, tmp_path: Path) -> None:
    """Not even when what it says now would make sense."""
    entry = begun(journal)
    entry.record(moment(PowerStatus.OFF))
    entry.release()
    file = only_file(tmp_path)
    content = file.read_bytes()
    head, said, tail = content.rpartition(b'"settled":false')
    file.write_bytes(head + b'"settled":true ' + tail)

    (found,) = journal.adopt(now=LATER)

    assert said
    assert found.owes
    assert found.reached is PowerStatus.ACCEPTED


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 32768, b"garbage\n", b"00000000 {}\n", b"\xff" * 100_000],
    ids=["empty", "zeros", "garbage", "wrong", "large"],
)
def test_a_file_that_cannot_be_read_is_set_aside_and_stops_nobody(
    journal: Journal, tmp_path: Path, content: bytes
) -> None:
    entry = begun(journal)
    entry.release()
    bad = tmp_path / "journal" / "01ARZ3NDEKTSV4RRFFQ69G5FAV.power"
    bad.write_bytes(content)

    (found,) = journal.adopt(now=LATER)

    found.release()
    assert not bad.exists()
    assert bad.with_suffix(".unreadable").read_bytes() == content
    assert len(journal.adopt(now=LATER)) == 1


def test_files_of_others_are_left_alone(journal: Journal, tmp_path: Path) -> None:
    begun(journal).release()
    (tmp_path / "journal" / "README").write_text("mine")
    (tmp_path / "journal" / "folder").mkdir()

    (found,) = journal.adopt(now=LATER)

    found.release()
    assert (tmp_path / "journal" / "README").read_text() == "mine"


def test_what_a_crash_left_before_anything_was_switched_is_swept_up(journal: Journal, tmp_path: Path) -> None:
    entry = begun(journal)
    entry.release()
    unfinished = only_file(tmp_path).with_suffix(".new")
    unfinished.write_bytes(b"half")

    (found,) = journal.adopt(now=LATER)

    found.release()
    assert unfinished.exists()  # somebody may be about to write the rest
    os.utime(unfinished, (0, 0))
    journal.adopt(now=LATER)
    assert not unfinished.exists()


def test_a_line_of_a_newer_version_hides_nothing(journal: Journal, tmp_path: Path) -> None:
    entry = begun(journal)
    path = only_file(tmp_path)
    content = path.read_bytes().rstrip(b"\0")
    text = json.dumps({"moment": {"status": "warming_up", "at": "2026-01-02T12:00:00Z"}}).encode()
    entry.release()
    path.write_bytes(content + b"%08x %s\n" % (zlib.crc32(text), text))

    (found,) = journal.adopt(now=LATER)

    assert found.owes
    found.release()


def test_commands_are_begun_while_another_looks_for_what_was_left(journal: Journal) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for entry in journal.adopt(now=LATER):
                entry.release()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(100):
            begun(journal).release()
    finally:
        over.set()
        looking.join()


def test_a_command_too_long_for_the_journal_is_refused_and_leaves_nothing(
    journal: Journal, tmp_path: Path
) -> None:
    command = order().model_copy(update={"who": "x" * 30_000})

    with pytest.raises(JournalUnwritable, match="too long"):
        journal.begin(Intent(command=command, agent="a", controller="c", port="1"))

    assert not (tmp_path / "journal").exists()


def test_the_longest_texts_fit(journal: Journal) -> None:
    command = order().model_copy(update={"why": "ü" * 2000, "who": "a" * 200})
    entry = journal.begin(
        Intent(
            command=command,
            agent="a" * 100,
            controller="c" * 200,
            port="1" * 200,
            before=[moment(status, "ü" * 2000) for status in (PowerStatus.ACCEPTED, PowerStatus.OFF)],
        )
    )
    for status in (PowerStatus.OFF, PowerStatus.ON):
        entry.record(moment(status))
    entry.record(moment(PowerStatus.FAILED, "ü" * 2000))
    entry.mark_reported()
    entry.release()

    (found,) = journal.adopt(now=LATER)
    assert [each.status for each in found.moments] == [each.status for each in entry.moments]
    found.release()


def test_a_directory_that_cannot_be_written_refuses_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the directory should be")

    with pytest.raises(JournalUnwritable, match="--state-dir"):
        begun(Journal(tmp_path / "journal"))


@pytest.mark.integration
def test_a_directory_that_cannot_be_looked_into_refuses_as_well(tmp_path: Path) -> None:
    journal = Journal(tmp_path / ("x" * 300))
    assert not journal.knows(order().id)
    with pytest.raises(JournalUnwritable):
        begun(journal)


def test_a_link_leads_nowhere(journal: Journal, tmp_path: Path) -> None:
    begun(Journal(tmp_path / "elsewhere")).release()
    [theirs] = (tmp_path / "elsewhere").iterdir()
    (tmp_path / "journal").mkdir(exist_ok=True)
    (tmp_path / "journal" / theirs.name).symlink_to(theirs)
    assert journal.adopt(now=START) == []


def test_a_full_disk_refuses_the_next_command_and_lets_the_running_one_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        journal = Journal(disk.path / "journal")
        running = begun(journal)
        disk.fill()

        with pytest.raises(JournalUnwritable, match="No space left"):
            begun(journal)

        running.record(moment(PowerStatus.OFF))
        running.record(moment(PowerStatus.ON), settles=True)
        running.record(moment(PowerStatus.DONE))
        running.release()
        (found,) = journal.adopt(now=LATER)
        assert found.end is not None
        assert found.end.status is PowerStatus.DONE
        found.release()
        assert len(list((disk.path / "journal").iterdir())) == 1


LIMITED = """
import resource, sys
from pathlib import Path
from consumers.powercycle_agent.journal import Journal, JournalUnwritable
from tests.unit.consumers.powercycle_agent.test_journal import begun
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    begun(Journal(Path(sys.argv[1])))
except JournalUnwritable as error:
    print(error)
"""


@pytest.mark.integration
def test_a_file_that_may_not_grow_is_refused_before_anything_is_switched(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )

    assert "File too large" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_off_command_owes_nothing(journal: Journal) -> None:
    entry = begun(journal, action=PowerAction.OFF)

    assert not entry.owes
    entry.release()


def test_what_two_threads_write_at_once_is_all_there(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port comes on while the end of its command is being told."""
    entry = begun(journal)
    entry.record(moment(PowerStatus.FAILED))
    telling = threading.Thread(target=entry.mark_reported)
    force = os.fsync

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", force)
        telling.start()
        telling.join(0.1)  # it ends by then, unless it has to wait for us
        force(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    entry.settle()
    telling.join()

    found = journal.ended(entry.command.id)
    assert found is not None
    assert found.is_settled
    assert found.is_reported


def test_no_descriptor_is_left_open(journal: Journal) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        entry = begun(journal)
        entry.record(moment(PowerStatus.DONE), settles=True)
        entry.mark_reported()
    journal.adopt(now=LATER)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
