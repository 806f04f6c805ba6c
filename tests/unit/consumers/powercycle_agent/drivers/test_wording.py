"""How a device words the state of a port."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.drivers.wording import Wording

pytestmark = pytest.mark.slow

ON, OFF, UNKNOWN = PortState.ON, PortState.OFF, PortState.UNKNOWN


@pytest.mark.parametrize(
    ("wording", "text", "state"),
    [
        ({}, " ON\n", ON),
        ({}, "0", OFF),
        ({}, "online", UNKNOWN),
        ({"on": ["Up", "blinking"], "off": ["Down"]}, "UP", ON),
        ({"pointer": ""}, "true", ON),
        ({"pointer": "/state"}, '{"state": "OFF", "linkquality": 87}', OFF),
        ({"pointer": "/relays/1/is~1on"}, '{"relays": [{}, {"is/on": true}]}', ON),
        ({"pointer": "/a~1b~0"}, '{"a/b~": 1}', ON),
        ({"pointer": "/state"}, '{"state": null}', UNKNOWN),
        ({"pointer": "/state"}, '{"state": {"on": true}}', UNKNOWN),
        ({"pointer": "/state"}, "[1]", UNKNOWN),
        ({"pointer": "/1"}, "[1]", UNKNOWN),
        ({"pointer": "/-1"}, "[1]", UNKNOWN),
        ({"pointer": "/state"}, "on", UNKNOWN),
        ({"pointer": "/state"}, "[" * 100_000, UNKNOWN),
        ({"pattern": r"relay 3: (\w+)"}, "relay 2: on\nrelay 3: off\n", OFF),
        ({"pattern": "on|off"}, "it is on", ON),
        ({"pattern": r"relay 4: (\w+)"}, "relay 3: off", UNKNOWN),
        ({"pattern": r"(on)?\."}, ".", UNKNOWN),
    ],
)
def test_a_text_is_read_as_it_was_described(wording: dict[str, Any], text: str, state: PortState) -> None:
    assert Wording.model_validate(wording).read(text) is state


@pytest.mark.parametrize(
    ("wording", "said"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "x", "pointer": "/x"}, "both a pointer and a pattern"),
        ({"on": ["open"], "off": ["Open"]}, "same word"),
        ({"pointer": "state"}, "pattern"),
        ({"on": []}, "at least 1"),
    ],
)
def test_a_description_that_cannot_be_meant_is_refused(wording: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Wording.model_validate(wording)
