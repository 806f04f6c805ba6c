"""`powercycle` while the lab is there: the façade itself takes the orders, and the test plays the agents."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from consumers.facade.tokens import Role, add_token
from consumers.powercycle_agent import ordering, powercycle
from schemas.power import PowerStatus
from tests.integration.test_labkeeper_power import Agent, pending, powered
from tests.unit.consumers.facade.lab import NOW, Lab, running
from tests.unit.consumers.powercycle_agent.old_command import (
    NOWHERE,
    Ran,
    child,
    powercycle_beside,
    said,
    strips,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quiet_server")]

DEADLINE_S = 20
NO_CONF = "Unable to parse config file.  Got error: cannot read "


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """With nothing to wait for."""
    monkeypatch.setattr(ordering, "_LOOK_EVERY_S", 0.01)
    async with running() as lab, asyncio.timeout(DEADLINE_S):
        yield lab


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Some other server; its URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def run(lab: Lab, *arguments: object, **environment: str) -> Ran:
    environment = {"LABKEEPER_URL": lab.url, "LABKEEPER_AGENT": "rack4", **environment}
    return await powercycle_beside(*arguments, **environment)


async def test_a_cycle_is_ordered_and_each_step_told(lab: Lab) -> None:
    await powered(lab, "a")
    async with Agent(lab):
        ran = await run(lab, "-delay", "7", "-reason=hangs", "a")
    assert ran.code == 0
    assert ran.lines == ["a: queued", "a: accepted", "a: off", "a: done", "Power cycle successful. All done."]
    [record] = await lab.store.power_commands(machine_id="a")
    assert (record.command.delay_s, record.command.why) == (7, "hangs")


async def test_one_that_fails_and_one_that_is_refused_do_not_stop_the_third(lab: Lab) -> None:
    await powered(lab, "a", "c")
    await powered(lab, "b", running_swarming_task=True)
    async with Agent(lab, a=PowerStatus.FAILED):
        ran = await run(lab, "a", "b", "c")
    assert ran.code == 1
    assert "c: done" in ran.lines
    assert ran.lines[-2] == "Unable to power cycle device a. Got error: the switch is on fire"
    assert ran.lines[-1].startswith("Unable to power cycle device b. Got error: b runs a task")


async def test_force_overrules_a_refusal(lab: Lab) -> None:
    await powered(lab, "b", running_swarming_task=True)
    async with Agent(lab):
        assert (await run(lab, "--force", "b")).code == 0


async def test_the_wish_for_something_else_is_not_taken_for_a_cycle(lab: Lab) -> None:
    await powered(lab, "a")
    async with lab.http.put("/api/v1/machines/a/power", json={"action": "off"}) as answer:
        assert answer.status == 202
    ran = await run(lab, "a")
    assert ran.code == 1
    assert ran.lines[-1].startswith("Unable to power cycle device a. Got error: ")
    assert [each.command.action for each in await pending(lab)] == ["off"]


async def test_ids_are_the_labs_where_there_is_no_configuration(lab: Lab) -> None:
    await powered(lab, "b", "a")
    assert (await run(lab, "-l")).lines[1:] == ["Valid device IDs are:", "    a", "    b"]
    ran = await run(lab, "a", "z")
    assert (ran.code, ran.lines[0], ran.lines[-1]) == (1, "Invalid device ID.", "Not among them: z")
    assert await pending(lab) == []


async def test_a_configuration_that_was_named_must_be_there(lab: Lab, tmp_path: Path) -> None:
    ran = await run(lab, "-l", "-conf", tmp_path / "none.json5")
    assert ran.code == 1
    assert ran.lines[-1].startswith(NO_CONF)


async def test_the_devices_old_name_will_do_if_only_the_machine_is_known(lab: Lab, tmp_path: Path) -> None:
    await powered(lab, "a", "b")
    conf = strips(tmp_path, strip={"b-device": 3})
    async with Agent(lab):
        ran = await run(lab, "a-device")
        assert (ran.code, "a: done" in ran.lines) == (0, True)
        ran = await run(lab, "-conf", conf, "b-device")
    assert ran.code == 1, "its device has a name of its own, and b is another outlet"
    assert ran.lines[-1].startswith("Unable to power cycle device b-device. Got error: ")
    assert [each.command.machine_id for each in await lab.store.power_commands()] == ["a"]


async def test_what_is_down_here_is_cycled(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powercycle, "AUTO_FIX_PAUSE_S", 0.01)
    await powered(lab, "a", "b", down_since=NOW)
    await powered(lab, "c")
    async with Agent(lab):
        ran = await run(lab, "--auto_fix")
    assert ran.code == 0
    assert ran.lines[:2] == [
        "Will autofix [a b] in 0.01 seconds.",
        "Use Ctrl+C to cancel if this is unwanted/wrong.",
    ]
    assert {each.command.machine_id for each in await lab.store.power_commands()} == {"a", "b"}


async def test_who_interrupts_the_pause_has_switched_nothing(lab: Lab, tmp_path: Path) -> None:
    await powered(lab, "a", down_since=NOW)
    async with child("--auto_fix", "--name", "rack4", "--url", lab.url, state=tmp_path) as process:
        await said(process, "Use Ctrl+C")
        process.send_signal(signal.SIGINT)
        _, rest = await process.communicate()
    assert (process.returncode, rest.decode()) == (130, "Interrupted.\n")
    assert await lab.store.power_commands() == []


async def test_what_is_down_and_nobody_can_cycle_stops_nobody(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercycle, "AUTO_FIX_PAUSE_S", 0.01)
    await powered(lab, "b")

    async def bots(_: web.Request) -> web.Response:
        some = [{"bot_id": name, "host_id": "jumphost-rack4", "status": "Host Missing"} for name in "ab"]
        return web.json_response({"list": some})

    app = web.Application()
    app.router.add_get("/down_bots", bots)
    async with serving(app) as url, Agent(lab):
        ran = await run(lab, "--auto_fix", "--auto_fix_url", url + "/down_bots")
    assert ran.code == 1
    assert "b: done" in ran.lines
    assert ran.lines[-1] == "Unable to power cycle device a. Got error: Invalid device ID."


async def test_what_is_down_elsewhere_is_not(lab: Lab) -> None:
    await powered(lab, "a", down_since=NOW)
    ran = await run(lab, "--auto_fix", LABKEEPER_AGENT="rack5")
    assert (ran.code, ran.lines) == (0, ["Nothing to autofix."])


async def test_an_old_daemon_hears_of_it_and_may_fail(lab: Lab) -> None:
    heard: list[object] = []

    async def post(request: web.Request) -> web.Response:
        heard.append(await request.json())
        return web.Response(status=202 if len(heard) == 1 else 500)

    app = web.Application()
    app.router.add_post("/powercycled_bots", post)
    await powered(lab, "a", "b")
    async with serving(app) as url, Agent(lab, b=PowerStatus.FAILED):
        first = await run(lab, "-daemon_url", url + "/powercycled_bots", "a-device", "b")
        second = await run(lab, "-daemon_url", url + "/powercycled_bots", "a")
        third = await run(lab, "-daemon_url", NOWHERE, "a")
    assert heard == [{"powercycled_bots": ["a-device"]}, {"powercycled_bots": ["a"]}]
    assert (first.code, second.code, third.code) == (1, 0, 0)
    for ran in (second, third):
        assert ran.lines[-2].startswith("Could not report powercyling through daemon: ")
        assert ran.lines[-1] == "Power cycle successful. All done."


async def test_another_server_is_not_taken_for_the_lab(tmp_path: Path) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/readyz", hello)
    async with serving(app) as url:
        ran = await powercycle_beside("-conf", strips(tmp_path, a={"a": 1}), "--url", url, "a")
    assert ran.code == 1
    assert "is no Labkeeper façade" in ran.lines[-1]


async def test_a_lab_that_is_not_ready_is_past(tmp_path: Path) -> None:
    async def not_ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": False}, status=503)

    app = web.Application()
    app.router.add_get("/readyz", not_ready)
    async with serving(app) as url:
        arguments = ("-conf", strips(tmp_path, a={"a": 1}), "--url", url, "--state-dir", tmp_path / "state")
        ran = await powercycle_beside(*arguments, "a")
    assert ran.code == 1
    assert ran.lines[0].startswith(
        f"Driving the switches from here: the lab cannot be reached ({url} answered 503"
    )


async def test_who_may_not_is_told_so(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    viewer = add_token(tokens, Role.VIEWER, "vera")
    operator = tmp_path / "operator"
    operator.write_text(add_token(tokens, Role.OPERATOR, "olga"))
    async with running(tokens=tokens) as lab:
        await powered(lab, "a", down_since=NOW)
        without = await run(lab, "a")
        watching = await run(lab, "a", LABKEEPER_TOKEN=viewer)
        async with Agent(lab):
            may = await run(lab, "a", "--token-file", operator)
        listing = await run(lab, "--auto_fix", "--token-file", operator, LABKEEPER_AGENT="other")
    assert (without.code, watching.code, may.code, listing.code) == (1, 1, 0, 0)
    assert without.lines[-1].endswith(
        "this takes a token in the header Authorization, as Bearer <token>: "
        "give an API token that may do this (--token-file, or LABKEEPER_TOKEN)"
    )
    assert "give an API token" in watching.lines[-1]
    assert viewer not in "\n".join(watching.lines)
