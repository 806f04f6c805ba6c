from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from producers.machine_monitor import spool as spool_module
from producers.machine_monitor.spool import Spool, SpoolLimits


def fill(spool: Spool, count: int) -> None:
    for number in range(count):
        spool.put(f"event {number}".encode(), {"ce_id": str(number)})


def drain(spool: Spool) -> list[str]:
    bodies = []
    while (waiting := spool.oldest()) is not None:
        bodies.append(waiting.body.decode())
        spool.remove(waiting)
    return bodies


def test_events_come_out_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits())
    fill(spool, 12)
    assert drain(spool) == [f"event {number}" for number in range(12)]
    assert spool.oldest() is None


def test_an_event_stays_until_it_is_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits())
    spool.put(b"body\nwith lines", {"ce_id": "7"}, stamp="1:2:3")
    first, again = spool.oldest(), spool.oldest()
    assert first == again
    assert first is not None
    assert (first.body, first.headers, first.stamp) == (b"body\nwith lines", {"ce_id": "7"}, "1:2:3")


def test_the_next_run_takes_up_what_waits(tmp_path: Path) -> None:
    fill(Spool(tmp_path, SpoolLimits()), 3)
    spool = Spool(tmp_path, SpoolLimits())
    spool.put(b"new", {})
    assert drain(spool) == ["event 0", "event 1", "event 2", "new"]


def test_a_crash_in_the_middle_of_a_write_leaves_nothing_half(tmp_path: Path) -> None:
    fill(Spool(tmp_path, SpoolLimits()), 1)
    half = tmp_path / ".00000000000000000001.event.x1.tmp"
    half.write_bytes(b'{"headers": {}, "st')
    spool = Spool(tmp_path, SpoolLimits())
    assert drain(spool) == ["event 0"]
    assert not half.exists()


@pytest.mark.parametrize("damage", [b"", b"garbage", b'{"headers": {}, "stamp": "", "size": 9}\nshort'])
def test_a_damaged_event_is_put_aside(tmp_path: Path, damage: bytes) -> None:
    fill(Spool(tmp_path, SpoolLimits()), 3)
    (tmp_path / f"{1:020}.event").write_bytes(damage)
    assert drain(Spool(tmp_path, SpoolLimits())) == ["event 0", "event 2"]
    assert [file.read_bytes() for file in (tmp_path / "parked").glob("*.event")] == [damage]


def test_an_event_that_vanished_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits())
    fill(spool, 3)
    (tmp_path / f"{0:020}.event").unlink()
    assert drain(spool) == ["event 1", "event 2"]


def test_too_many_events_push_out_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(events=3))
    fill(spool, 5)
    assert spool.dropped == 2
    assert len(list(tmp_path.glob("*.event"))) == 3
    assert drain(spool) == ["event 2", "event 3", "event 4"]


def test_too_many_bytes_push_out_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(size_bytes=2500))
    for letter in b"abc":
        spool.put(bytes([letter]) * 1000, {})
    assert [body[0] for body in drain(spool)] == ["b", "c"]


def test_one_event_always_has_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(events=1, size_bytes=1))
    fill(spool, 2)
    assert drain(spool) == ["event 1"]


def test_lower_limits_hold_for_what_an_earlier_run_left(tmp_path: Path) -> None:
    fill(Spool(tmp_path, SpoolLimits()), 5)
    assert drain(Spool(tmp_path, SpoolLimits(events=2))) == ["event 3", "event 4"]


def test_a_dropped_event_that_was_being_sent_does_no_harm(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(events=1))
    spool.put(b"old", {})
    sending = spool.oldest()
    assert sending is not None
    spool.put(b"new", {})
    spool.remove(sending)
    assert drain(spool) == ["new"]


def test_a_parked_event_keeps_its_reason(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits())
    fill(spool, 2)
    waiting = spool.oldest()
    assert waiting is not None
    spool.park(waiting, "answered 400: no such thing")
    assert drain(spool) == ["event 1"]
    (reason,) = (tmp_path / "parked").glob("*.reason")
    assert reason.read_text() == "answered 400: no such thing"
    assert reason.with_suffix(".event").read_bytes().endswith(b"\nevent 0")


def test_parked_events_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_PARKED_LIMIT", 3)
    spool = Spool(tmp_path, SpoolLimits())
    fill(spool, 5)
    while (waiting := spool.oldest()) is not None:
        spool.park(waiting, "no")
    assert len(list((tmp_path / "parked").iterdir())) == 6


def test_the_quarantine_files_that_wait_to_be_reported_are_known(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits())
    spool.put(b"a", {}, stamp="1:1:1")
    spool.put(b"b", {})
    assert spool.stamps() == Spool(tmp_path, SpoolLimits()).stamps() == {"1:1:1"}
    drain(spool)
    assert spool.stamps() == frozenset()


def test_when_the_disk_takes_nothing_events_wait_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, SpoolLimits(events=3))
    fill(spool, 1)

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "write_whole", full)
        for name in "abc":
            spool.put(name.encode(), {})
    assert spool.dropped == 1
    assert drain(spool) == ["a", "b", "c"]


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot be used"):
        Spool(tmp_path / "file" / "spool", SpoolLimits())
