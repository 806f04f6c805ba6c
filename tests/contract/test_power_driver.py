"""What every power driver promises. Each test's docstring is the promise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from tests.contract.power_devices.harness import Case, Trait, all_harnesses
from tests.power_devices.device import Mood
from tests.starvation import starved_s

IMPATIENT_S = 0.6
"""Limit of drivers whose device will not answer."""
GRACE_S = 3.0
"""What a driver on a busy machine may take beyond its limit."""
ENOUGH_S = 20.0
"""Limit of drivers whose device is well: none comes near."""

Call = Callable[[PowerDriver, str], Coroutine[Any, Any, object]]
CALLS: dict[str, Call] = {
    "on": lambda driver, port: driver.on(port),
    "off": lambda driver, port: driver.off(port),
    "status": lambda driver, port: driver.status(port),
    "probe": lambda driver, _: driver.probe(),
}
NEEDS: dict[str, tuple[Trait, ...]] = {}

Test = TypeVar("Test", bound=Callable[..., Any])


def needs(*traits: Trait) -> Callable[[Test], Test]:
    """A promise that some devices cannot keep: skipped there, with the reason that their harness gives."""

    def note(test: Test) -> Test:
        NEEDS[test.__name__] = traits
        return test

    return note


@pytest.fixture(params=[pytest.param(each, id=each.name, marks=each.marks) for each in all_harnesses()])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    harness = request.param
    for trait in NEEDS.get(request.function.__name__, ()):
        if trait in harness.lacks:
            pytest.skip(f"{harness.name}, {trait}: {harness.lacks[trait]}")
    async with harness.start(tmp_path) as started:
        yield started


@asynccontextmanager
async def opened(case: Case, *, limit_s: float = ENOUGH_S) -> AsyncIterator[PowerDriver]:
    driver = case.open(limit_s=limit_s)
    try:
        yield driver
    finally:
        await driver.close()


every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
new_and_warm = pytest.mark.parametrize("warm", [False, True], ids=["new", "warm"])
both_ways = pytest.mark.parametrize("way", [PortState.ON, PortState.OFF])


async def switch(driver: PowerDriver, port: str, way: PortState) -> None:
    await (driver.on(port) if way is PortState.ON else driver.off(port))


async def warm_up(driver: PowerDriver, port: str) -> None:
    """A limit as short as this one is missed now and then on a busy machine, by devices that are well, too."""
    async with asyncio.timeout(3 * ENOUGH_S):
        while True:
            try:
                return await driver.on(port)
            except DriverError:
                continue


async def all_calls_in(case: Case, mood: Mood, *, warm: bool) -> tuple[dict[str, object], float]:
    """What becomes of each call, by a driver of its own and all at once, and the seconds it took, without those in which
    the machine was busy with others.
    """
    async with AsyncExitStack() as drivers:
        by_call = {
            name: await drivers.enter_async_context(opened(case, limit_s=IMPATIENT_S)) for name in CALLS
        }
        if warm:
            for driver in by_call.values():
                await warm_up(driver, case.ports[0])
        case.device.mood = mood
        began = time.monotonic() - starved_s()
        results = await asyncio.gather(
            *(call(by_call[name], case.ports[0]) for name, call in CALLS.items()), return_exceptions=True
        )
        return dict(zip(CALLS, results, strict=True)), time.monotonic() - starved_s() - began


def opposite(state: PortState) -> PortState:
    return PortState.OFF if state is PortState.ON else PortState.ON


def assert_well_told(case: Case, error: DriverError) -> None:
    """Which device, and no secret; also not in what an error was caused by, which logs show."""
    assert case.called in str(error)
    told: BaseException | None = error
    while told is not None:
        for secret in case.secret_texts:
            assert secret not in str(told)
            assert secret not in repr(told)
        told = told.__cause__ or told.__context__


async def test_a_port_is_off_and_on_again_at_the_device_itself(case: Case) -> None:
    """`off` and `on` return once the device's port is so."""
    port, _ = case.ports
    async with opened(case) as driver:
        await driver.off(port)
        assert case.device.states[port] is PortState.OFF
        await driver.on(port)
        assert case.device.states[port] is PortState.ON


@both_ways
async def test_a_port_that_is_so_already_is_no_error(case: Case, way: PortState) -> None:
    """Off already is success, and so is on already."""
    port, _ = case.ports
    case.device.states[port] = way
    async with opened(case) as driver:
        await switch(driver, port, way)
        await switch(driver, port, way)
    assert case.device.states[port] is way


@needs(Trait.NEIGHBOURS)
async def test_other_ports_are_left_alone(case: Case) -> None:
    """A call concerns its port only."""
    port, other = case.ports
    async with opened(case) as driver:
        await driver.off(port)
        assert case.device.states[other] is PortState.ON
        case.device.states[other] = PortState.OFF
        await driver.on(port)
    changed = {port: PortState.ON, other: PortState.OFF}
    assert case.device.states == dict.fromkeys(case.device.states, PortState.ON) | changed


@needs(Trait.READ_BACK, Trait.NEIGHBOURS)
@both_ways
async def test_the_state_is_what_the_device_says_now(case: Case, way: PortState) -> None:
    """`status` tells what is so at the device, whoever switched it."""
    port, other = case.ports
    async with opened(case) as driver:
        await switch(driver, port, opposite(way))
        case.device.states[port] = way
        case.device.states[other] = opposite(way)
        assert await driver.status(port) is way
        assert await driver.status(other) is opposite(way)


@needs(Trait.READ_BACK)
@both_ways
async def test_a_device_that_says_yes_and_does_nothing_is_found_out(case: Case, way: PortState) -> None:
    """What the device does not confirm is `NotConfirmed`."""
    port, _ = case.ports
    case.device.states[port] = opposite(way)
    case.device.mood = Mood.IDLES
    async with opened(case) as driver:
        with pytest.raises(NotConfirmed) as caught:
            await switch(driver, port, way)
    assert_well_told(case, caught.value)
    assert case.device.states[port] is opposite(way)


async def test_a_driver_says_whether_it_reads_back(case: Case, request: pytest.FixtureRequest) -> None:
    """`reads_back` of the kind is the truth."""
    harness = request.node.callspec.params["case"]
    assert case.kind.reads_back is (Trait.READ_BACK not in harness.lacks)


@needs(Trait.NETWORK)
@every_call
async def test_a_device_out_of_reach_is_unreachable_and_never_off(case: Case, call: Call) -> None:
    """A device that cannot be reached is an error, whatever was asked."""
    port, _ = case.ports
    await case.device.stop()
    async with opened(case) as driver:
        with pytest.raises(Unreachable) as caught:
            await call(driver, port)
    assert_well_told(case, caught.value)
    assert case.device.states[port] is PortState.ON


@needs(Trait.NETWORK, Trait.CONNECTION)
@every_call
async def test_a_device_that_refuses_the_connection_was_sent_nothing(case: Case, call: Call) -> None:
    """Where no connection was made it is `NotReached`: nothing was switched, for certain."""
    port, _ = case.ports
    await case.device.stop()
    async with opened(case) as driver:
        with pytest.raises(NotReached, match="cannot connect to"):
            await call(driver, port)
    assert case.device.log == []


@needs(Trait.NETWORK, Trait.CONNECTION)
async def test_a_device_that_took_the_command_and_went_away_was_sent_something(case: Case) -> None:
    """Once the device was told, it is not `NotReached` any more."""
    port, _ = case.ports
    case.device.mood = Mood.HANGS
    async with opened(case, limit_s=IMPATIENT_S) as driver:
        with pytest.raises(DriverError) as caught:
            await driver.off(port)
    assert case.device.log == [] or not isinstance(caught.value, NotReached)


@needs(Trait.NETWORK)
async def test_a_device_that_went_away_is_unreachable_and_used_again_when_it_is_back(case: Case) -> None:
    """A driver lives on over its device's absence, also when it had been connected before."""
    port, _ = case.ports
    async with opened(case) as driver:
        await driver.off(port)
        await case.device.stop()
        with pytest.raises(Unreachable):
            await driver.on(port)
        await case.device.start()
        await driver.on(port)
    assert case.device.states[port] is PortState.ON


@needs(Trait.NETWORK)
@every_call
async def test_a_connection_that_died_meanwhile_fails_no_call(case: Case, call: Call) -> None:
    """A call never fails because of an old connection."""
    port, _ = case.ports
    async with opened(case) as driver:
        await driver.probe()
        await driver.on(port)
        await case.device.break_off()
        await call(driver, port)


@needs(Trait.LOGIN)
@every_call
async def test_a_wrong_login_is_turned_away(case: Case, call: Call) -> None:
    """A login that the device refuses is `TurnedAway`, and no secret is in the text."""
    port, _ = case.ports
    case.device.mood = Mood.REFUSES
    async with opened(case) as driver:
        with pytest.raises(TurnedAway) as caught:
            await call(driver, port)
    assert_well_told(case, caught.value)
    assert case.device.states[port] is PortState.ON


@needs(Trait.PORTS)
@pytest.mark.parametrize("call", [CALLS["on"], CALLS["off"], CALLS["status"]], ids=["on", "off", "status"])
async def test_a_port_that_is_not_there_is_unknown(case: Case, call: Call) -> None:
    """The device has no such port: `UnknownPort`, and the driver goes on with others."""
    port, _ = case.ports
    async with opened(case) as driver:
        with pytest.raises(UnknownPort) as caught:
            await call(driver, case.no_port)
        assert_well_told(case, caught.value)
        await driver.off(port)
    assert case.device.states[port] is PortState.OFF


async def test_probing_changes_nothing(case: Case) -> None:
    """`probe` returns if the device answers and lets us in, and no port is touched."""
    port, _ = case.ports
    case.device.states[port] = PortState.OFF
    before = dict(case.device.states)
    async with opened(case) as driver:
        await driver.probe()
        await driver.probe()
    assert case.device.states == before


@new_and_warm
async def test_a_device_that_hangs_holds_nobody_longer_than_the_limit(case: Case, warm: bool) -> None:
    """Each call ends within its limit, with or without a connection from before, as a `DriverError`."""
    results, took_s = await all_calls_in(case, Mood.HANGS, warm=warm)
    assert took_s < IMPATIENT_S + GRACE_S
    for result in results.values():
        assert isinstance(result, DriverError), result
        assert_well_told(case, result)


async def test_a_cancelled_call_leaves_the_driver_usable(case: Case) -> None:
    """A call may be cancelled at any moment; the next one works."""
    port, _ = case.ports
    async with opened(case) as driver:
        for moment in (0, 0.001, 0.004, 0.02, 0.1):
            case.device.mood = Mood.HANGS
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(moment):
                    await driver.off(port)
            case.device.mood = Mood.WELL
            await driver.off(port)
            assert case.device.states[port] is PortState.OFF
            await driver.on(port)
            assert case.device.states[port] is PortState.ON


@needs(Trait.NEIGHBOURS)
async def test_a_call_cut_short_does_not_answer_the_next(case: Case) -> None:
    """What a cancelled call had asked is never taken for the answer to another."""
    port, other = case.ports
    async with opened(case) as driver:
        for moment in (0.001, 0.003, 0.006, 0.012):
            case.device.states[other] = PortState.OFF
            await driver.on(port)
            try:
                async with asyncio.timeout(moment):
                    await driver.off(other)
            except TimeoutError:
                pass
            await driver.on(other)
            assert case.device.states[other] is PortState.ON


@needs(Trait.ANSWERS)
@new_and_warm
async def test_answers_without_sense_are_never_success(case: Case, warm: bool) -> None:
    """Garbage is a `DriverError` and no other exception; a port is not believed to be on or off because of it."""
    results, _ = await all_calls_in(case, Mood.BABBLES, warm=warm)
    for name, result in results.items():
        if isinstance(result, DriverError):
            assert_well_told(case, result)
        else:
            assert (name, result) in [("status", PortState.UNKNOWN), ("probe", None)]


async def test_opening_touches_no_device(case: Case) -> None:
    """A driver can be made while its device is away; closing it then raises nothing, not even twice."""
    await case.device.stop()
    driver = case.open()
    await driver.close()
    await driver.close()
    assert case.device.log == []


async def test_closing_lets_go_and_may_be_done_twice(case: Case) -> None:
    """`close` never raises: not after calls, not when the device has gone."""
    port, _ = case.ports
    driver, other = case.open(), case.open()
    await driver.on(port)
    await other.on(port)
    await driver.close()
    await driver.close()
    await case.device.stop()
    await other.close()
    await other.close()
