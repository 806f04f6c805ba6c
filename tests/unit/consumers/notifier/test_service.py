"""From changes to messages, through restarts, failures and silences."""

from __future__ import annotations

import asyncio
import zlib
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from consumers.notifier.__main__ import command
from consumers.notifier.grouping import MAX_NAMED, MAX_WAITING, Desk
from consumers.notifier.places import FilePlaces
from consumers.notifier.settings import NAME, NotifierSettings
from pipeline import metrics
from pipeline.clock import ManualClock
from pipeline.command import ExitCode
from pipeline.errors import Misconfigured
from schemas.power import ControllerReport
from schemas.silence import Silence
from tests.unit.consumers.notifier.lab import DEADLINE_S, NOON, ROUND, Lab, back, configured, down, until

QUIET = timedelta(seconds=31)


async def test_five_hundred_machines_lost_with_a_switch_are_one_message() -> None:
    lab = Lab()
    await lab.store.apply_power(
        [
            ControllerReport.model_validate(
                {
                    "machine_id": f"m{number:03}",
                    "state": "available",
                    "agent": "rack4",
                    "controller": "edgeswitch/sw1",
                    "port": str(number),
                    "at": NOON,
                }
            )
            for number in range(500)
        ],
        now=NOON,
    )
    async with lab.running():
        await lab.broker.publish([down(f"m{number:03}") for number in range(500)])
        await lab.read()
        lab.clock.advance(QUIET)
        await until(lambda: bool(lab.chat.messages))
    [message] = lab.chat.messages
    assert message.headline == "500 machines are down"
    assert list(message.common) == ["Pools: Lab 500", "Power controllers: edgeswitch/sw1 500"]


async def test_nothing_is_told_of_a_machine_that_is_back_in_time() -> None:
    lab = Lab()
    async with lab.running():
        await lab.broker.publish([down("a"), back("a"), down("b")])
        await lab.read()
        lab.clock.advance(QUIET)
        await until(lambda: bool(lab.chat.messages))
    assert [each.headline for each in lab.chat.messages] == ["b is down"]


async def test_a_receiver_that_is_away_gets_the_same_message_later() -> None:
    lab = Lab()
    lab.chat.failures = 3
    async with lab.running():
        await lab.broker.publish([down("a")])
        await lab.read()
        for tries in (1, 2, 3):
            lab.clock.advance(QUIET)
            await until(lambda tries=tries: lab.chat.tries >= tries)  # type: ignore[misc]
        lab.clock.advance(QUIET)
        await until(lambda: bool(lab.chat.messages))
    assert len(lab.chat.messages) == 1


async def test_a_receiver_that_wants_a_rest_gets_it() -> None:
    lab = Lab()
    lab.chat.failures, lab.chat.rest_s = 1, 600.0
    async with lab.running():
        await lab.broker.publish([down("a")])
        await lab.read()
        lab.clock.advance(QUIET)
        await until(lambda: lab.chat.tries == 1)
        lab.clock.advance(timedelta(seconds=599))
        await asyncio.sleep(10 * ROUND.total_seconds())
        assert lab.chat.tries == 1
        lab.clock.advance(timedelta(seconds=10))
        await until(lambda: bool(lab.chat.messages))


async def test_a_clock_that_is_put_back_holds_nothing_back() -> None:
    lab = Lab()
    lab.chat.failures = 1
    async with lab.running():
        await lab.broker.publish([down("a")])
        await lab.read()
        lab.clock.advance(timedelta(days=-1))
        await until(lambda: lab.chat.tries == 1)
        lab.clock.advance(timedelta(days=-1))
        await until(lambda: len(lab.chat.messages) == 1)


async def test_a_message_that_nobody_takes_for_a_day_is_dropped() -> None:
    lab = Lab(settings=NotifierSettings(look_every=ROUND, give_up_after=timedelta(hours=1)))
    lab.chat.failures = 1000
    async with lab.running():
        await lab.broker.publish([down("a")])
        await lab.read()
        lab.clock.advance(QUIET)
        await until(lambda: lab.chat.tries == 1)
        lab.clock.advance(timedelta(hours=2))
        await until(lambda: lab.chat.tries == 2)
        lab.clock.advance(timedelta(hours=2))
        await asyncio.sleep(10 * ROUND.total_seconds())
    assert lab.chat.tries == 2


async def saved_desk(lab: Lab, *, messages: int) -> Desk:
    """What is saved, once so many messages wait for their channel, or have become one."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            saved = await lab.store.checkpoint(NAME)
            assert saved is not None
            desk = Desk.model_validate_json(zlib.decompress(saved.content))
            if len(desk.deliveries) + sum(each.messages for each in desk.groups) == messages:
                return desk
            await asyncio.sleep(0.002)


async def test_a_channel_that_is_dead_for_long_gets_one_summary_and_what_waits_for_it_is_bounded() -> None:
    """Ten thousand machines fall silent, five hundred at a time; some are back before it could be told."""
    lab = Lab()
    lab.chat.failures = 10**9
    merged = metrics.NOTIFICATIONS.labels("chat", "merged")
    before = merged._value.get()
    sizes: list[int] = []
    async with lab.running(limit_s=60.0):
        for burst in range(20):
            await lab.broker.publish([down(f"m{burst:02}{number:03}") for number in range(500)])
            if burst in {5, 6}:
                await lab.broker.publish([back(f"m{burst:02}000")])
            await lab.read()
            lab.clock.advance(QUIET)
            desk = await saved_desk(lab, messages=burst + 1)
            sizes.append(len(desk.model_dump_json()))
        await lab.broker.publish([back("m06001")])
        await lab.read()
        assert len(desk.deliveries) == MAX_WAITING
        assert sum(len(each.notices) for each in desk.groups) <= MAX_NAMED
        assert max(sizes) < 1.2 * sizes[7]
        assert merged._value.get() - before == 14

        lab.chat.failures = 0
        lab.clock.advance(timedelta(hours=1))
        await until(lambda: len(lab.chat.messages) == MAX_WAITING + 1)
    *first, summary = lab.chat.messages
    assert [each.count for each in first] == MAX_WAITING * [500]
    assert summary.headline == f"{7500 - 2 - 1} machines are down"
    assert summary.merged == 15
    assert summary.common[0].startswith("This stands for 15 messages: from 2026-03-01T12:03:06Z on")
    assert "may be well again" in summary.common[1]
    named = {each.machine_id for each in summary.notices}
    assert len(named) <= MAX_NAMED
    assert not named & {"m06001", "m06000", "m05000"}


async def test_what_was_gathered_survives_a_restart_and_is_told_once() -> None:
    lab = Lab()
    async with lab.running():
        await lab.broker.publish([down("a")])
        await lab.read()
    assert lab.chat.messages == []
    async with lab.running():
        await lab.broker.publish([down("b")])
        await lab.read()
        lab.clock.advance(QUIET)
        await until(lambda: bool(lab.chat.messages))
    assert [each.headline for each in lab.chat.messages] == ["2 machines are down"]


async def test_changes_from_before_it_ever_ran_are_not_told() -> None:
    lab = Lab()
    await lab.broker.publish([down("old")])
    async with lab.running():
        await lab.broker.publish([down("new")])
        await lab.read()
        lab.clock.advance(QUIET)
        await until(lambda: bool(lab.chat.messages))
    assert [each.headline for each in lab.chat.messages] == ["new is down"]


@pytest.mark.parametrize(
    ("machine", "pool", "ends_in", "told"),
    [
        ("a*", "*", timedelta(hours=1), ["b is down"]),
        ("*", "Lab", timedelta(hours=1), []),
        ("*", "Other", timedelta(hours=1), ["2 machines are down"]),
        ("*", "*", timedelta(seconds=10), ["2 machines are down"]),
    ],
)
async def test_a_silence_keeps_quiet_about_what_it_covers(
    machine: str, pool: str, ends_in: timedelta, told: list[str]
) -> None:
    lab = Lab(configuration=configured(routes=[{"channels": ["chat", "mail"]}]))
    silence = Silence(
        owner="ann", reason="new rack", machine=machine, pool=pool, starts_at=NOON, ends_at=NOON + ends_in
    )
    await lab.store.add_silence(silence)
    async with lab.running():
        await lab.broker.publish([down("a1"), down("b")])
        await lab.read()
        lab.clock.advance(QUIET)
        if told:
            await until(lambda: bool(lab.chat.messages))
        else:
            await asyncio.sleep(20 * ROUND.total_seconds())
    assert [each.headline for each in lab.chat.messages] == told


async def test_a_second_notifier_stands_by_and_takes_over() -> None:
    lab = Lab()
    stop = asyncio.Event()
    async with lab.running():
        second = asyncio.create_task(lab.notifier().run(stop))
        await lab.broker.publish([down("a")])
        await lab.read()
        assert len(lab.broker._subscriptions) == 1
    lab.clock.advance(QUIET)
    await until(lambda: bool(lab.chat.messages))
    stop.set()
    await second
    assert [each.headline for each in lab.chat.messages] == ["a is down"]


async def test_a_changed_file_counts_and_a_bad_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "notifier.json5"
    text = "{channels: {NAME: {slack: {url_env: 'URL'}}}, routes: [{channels: ['NAME']}]}"
    path.write_text(text.replace("NAME", "one"))
    async with aiohttp.ClientSession() as session:
        places = FilePlaces(path, session, {}, ManualClock(NOON))
        assert list(places.channels) == ["one"]
        path.write_text(text.replace("NAME", "another"))
        await places.look()
        assert list(places.channels) == ["another"]
        path.write_text("{")
        await places.look()
        assert list(places.channels) == ["another"]
        with pytest.raises(Misconfigured):
            FilePlaces(path, session, {}, ManualClock(NOON))


def test_the_trial_names_the_channels_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "notifier.json5"
    path.write_text("{channels: {chat: {slack: {url_env: 'NO_URL'}}}, routes: [{channels: ['chat']}]}")
    result = CliRunner().invoke(command, ["--config", str(path), "--test"])
    assert result.exit_code != 0
    assert "chat: the Slack webhook's URL is empty: put it into NO_URL" in result.output


def test_only_the_trial_does_without_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notifier.json5"
    path.write_text("{channels: {}, routes: []}")
    result = CliRunner().invoke(command, ["--config", str(path)], env={"LABKEEPER_DATABASE_URL": None})
    assert result.exit_code == ExitCode.USAGE
    assert "--database-url" in result.output


async def test_the_trial_says_that_it_is_one(tmp_path: Path) -> None:
    taken: list[str] = []

    async def take(request: web.Request) -> web.Response:
        taken.append((await request.json())["text"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    path = tmp_path / "notifier.json5"
    path.write_text(
        f"{{channels: {{chat: {{slack: {{url_file: '{tmp_path}/url'}}}}}}, routes: [{{channels: ['chat']}}]}}"
    )
    async with TestServer(app) as server:
        (tmp_path / "url").write_text(str(server.make_url("/")))
        arguments = ["--config", str(path), "--test"]
        result = await asyncio.to_thread(CliRunner().invoke, command, arguments)
    assert (result.exception, result.output) == (None, "chat: sent\n")
    assert taken[0].splitlines() == ["*This is a test message of Labkeeper's notifier*", "All is well."]
