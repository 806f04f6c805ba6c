"""What becomes of a bot as its server tells of it; the old power site's rules."""

from __future__ import annotations

import json

import pytest

from producers.swarming_poller.bots import Bot
from schemas.event import SwarmingBot
from tests.unit.producers.swarming_poller.swarming_server import bot

SERVER = "https://swarm.example"


def reported(name: str = "rack4-07", **fields: object) -> SwarmingBot:
    return Bot.model_validate(bot(name, **fields)).report(SERVER)


def devices(**states: str) -> str:
    return json.dumps({"devices": {name: {"state": state} for name, state in states.items()}})


@pytest.mark.parametrize(
    ("state", "missing"),
    [
        pytest.param("not json", False, id="state-not-to-be-read"),
        pytest.param("[1]", False, id="state-is-no-object"),
        pytest.param("{}", True, id="no-devices-at-all"),
        pytest.param('{"devices": {}}', True, id="no-device"),
        pytest.param(devices(a="too_hot"), False, id="too-hot"),
        pytest.param(devices(a="usb_failure"), True, id="usb-failure"),
        pytest.param(devices(a="still booting (3)"), True, id="booting"),
        pytest.param(devices(a="low_battery"), False, id="something-else"),
        pytest.param(devices(a="too_hot", b="usb_failure"), False, id="only-one-is-looked-at"),
        pytest.param('{"devices": {"a": 7}}', False, id="a-device-that-says-nothing"),
    ],
)
def test_a_quarantined_bot_misses_its_device_by_the_old_rules(state: str, missing: bool) -> None:
    assert reported(quarantined=True, state=state).device_missing is missing


def test_a_dead_or_healthy_bot_misses_no_device() -> None:
    assert not reported(quarantined=True, isDead=True).device_missing
    assert not reported().device_missing


def test_the_reason_of_a_quarantine_is_the_bots_own() -> None:
    assert reported(quarantined=True, state='{"quarantined": "disk full"}').quarantine == "disk full"
    assert reported(quarantined=True, state='{"quarantined": true}').quarantine == "no reason given"
    assert reported(state='{"quarantined": "disk full"}').quarantine == ""


def test_what_a_bot_claims_is_bounded_and_storable() -> None:
    loud = reported(
        quarantined=True,
        state=json.dumps({"quarantined": "x\0" * 5000}),
        dimensions=[{"key": f"d{n}", "value": ["v\0\ud800" * 400] * 300} for n in range(300)],
    )
    assert len(loud.quarantine) <= 500
    assert loud.dimensions is not None
    assert len(loud.dimensions) <= 100
    assert all(len(values or []) <= 100 for values in loud.dimensions.values())
    assert SwarmingBot.model_validate_json(loud.model_dump_json()) == loud
    assert "\0" not in loud.model_dump_json()
