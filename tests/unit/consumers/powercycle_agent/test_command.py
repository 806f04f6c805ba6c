"""`labkeeper powercycle-agent`: what it refuses, and what it needs."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
import pytest

from consumers.powercycle_agent.__main__ import command
from consumers.powercycle_agent.identity import alone_in, owner_of
from consumers.powercycle_agent.locks import Locks
from pipeline.errors import Misconfigured


def run(*arguments: str) -> None:
    command.main(args=list(arguments), standalone_mode=False)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABKEEPER_URL", "LABKEEPER_DATABASE_URL", "LABKEEPER_AGENT"):
        monkeypatch.delenv(name, raising=False)


def test_it_must_be_told_how_to_reach_the_lab(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="how to reach the lab"):
        run("--state-dir", str(tmp_path))


def test_a_configuration_that_cannot_be_read_ends_it_at_once(tmp_path: Path) -> None:
    missing = str(tmp_path / "powercycle.json5")
    with pytest.raises(Misconfigured, match="cannot read"):
        run("--state-dir", str(tmp_path), "--url", "http://127.0.0.1:1", "--config", missing)


def test_a_hangup_before_it_listens_to_that_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    monkeypatch.setattr(
        "consumers.powercycle_agent.__main__.serve", lambda *_: heard.append(signal.getsignal(signal.SIGHUP))
    )
    run("--state-dir", str(tmp_path), "--url", "http://127.0.0.1:1")
    assert heard == [signal.SIG_IGN]


@pytest.mark.parametrize("name", ["", "two words", "ü", "x" * 129])
def test_a_name_is_one_that_a_token_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(click.BadParameter, match="a name has"):
        run("--state-dir", str(tmp_path), "--url", "http://127.0.0.1:1", "--name", name)


def test_a_process_is_the_same_after_a_restart_and_unlike_any_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = owner_of(tmp_path / "a")

    assert owner_of(tmp_path / "a") == first
    assert owner_of(tmp_path / "b") != first
    (tmp_path / "a" / "instance").write_bytes(b"\xff")
    assert owner_of(tmp_path / "a") != first


async def test_two_agents_do_not_share_a_directory(tmp_path: Path) -> None:
    locks, stop = Locks(tmp_path), asyncio.Event()
    async with alone_in(tmp_path, locks, stop) as is_ours:
        assert is_ours
        second = asyncio.create_task(_is_alone(tmp_path, locks, stop))
        await asyncio.sleep(0)
        stop.set()
        assert not await second
    assert await _is_alone(tmp_path, locks, asyncio.Event())


async def _is_alone(directory: Path, locks: Locks, stop: asyncio.Event) -> bool:
    async with alone_in(directory, locks, stop) as is_ours:
        return is_ours
