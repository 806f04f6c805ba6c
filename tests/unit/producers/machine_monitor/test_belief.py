from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producers.machine_monitor.belief import Belief
from schemas.description import Description

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PHONE = Description(attached_device="adb", dimensions={"id": ["m"]}, row_version=3)


def test_nothing_is_known_at_first() -> None:
    belief = Belief()
    assert belief.current is None
    assert not belief.is_available


async def test_whoever_waits_is_told() -> None:
    belief = Belief()
    waiting = asyncio.create_task(belief.known())
    belief.replace(PHONE)
    async with asyncio.timeout(60):
        assert await waiting == PHONE


def test_the_next_run_believes_what_this_one_did(tmp_path: Path) -> None:
    Belief(tmp_path / "description.json").replace(PHONE)
    later = Belief(tmp_path / "description.json")
    assert later.restore()
    assert later.current == PHONE


def test_a_heartbeat_does_not_wear_out_the_disk(tmp_path: Path) -> None:
    snapshot = tmp_path / "description.json"
    belief = Belief(snapshot)
    belief.replace(PHONE)
    written = snapshot.stat().st_mtime_ns, snapshot.stat().st_ino
    belief.replace(PHONE.model_copy(update={"last_updated": NOW, "battery": 50, "row_version": 4}))
    assert (snapshot.stat().st_mtime_ns, snapshot.stat().st_ino) == written


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]"])
def test_an_unreadable_snapshot_is_no_belief(tmp_path: Path, content: bytes | None) -> None:
    snapshot = tmp_path / "description.json"
    if content is not None:
        snapshot.write_bytes(content)
    belief = Belief(snapshot)
    assert not belief.restore()
    assert belief.current is None


def test_a_snapshot_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    belief = Belief(tmp_path / "missing" / "description.json")
    belief.replace(PHONE)
    assert belief.current == PHONE


@pytest.mark.parametrize(
    "trouble",
    [{"maintenance_mode": "a@b.c 2026"}, {"is_quarantined": True}, {"recovering": "Too hot."}],
)
def test_a_machine_in_trouble_is_not_available(trouble: dict[str, object]) -> None:
    belief = Belief()
    belief.replace(PHONE.model_copy(update=trouble))
    assert not belief.is_available


def test_a_machine_thought_silent_is_available() -> None:
    belief = Belief()
    belief.replace(PHONE.model_copy(update={"down_since": NOW}))
    assert belief.is_available


def test_an_override_wins_over_the_description() -> None:
    belief = Belief(attached_device="ios")
    belief.replace(PHONE)
    assert belief.current is not None
    assert belief.current.attached_device == "ios"


def test_another_device_is_announced() -> None:
    belief, told = Belief(), []
    belief.on_other_device = lambda: told.append(belief.current)
    belief.replace(PHONE)
    belief.replace(PHONE.model_copy(update={"battery": 3}))
    assert told == []
    phone_gone = PHONE.model_copy(update={"attached_device": "nodevice"})
    belief.replace(phone_gone)
    assert told == [phone_gone]
