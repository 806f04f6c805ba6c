"""The committed contracts say what the models say, and real messages satisfy them."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.changes import ChangeKind, MachineChange
from schemas.description import PowerCycleState
from schemas.documents import documents
from schemas.event import Event
from schemas.health import Health
from schemas.power import (
    ControllerReport,
    PowerAction,
    PowerCommand,
    PowerMoment,
    PowerRecord,
    PowerStatus,
    PowerStep,
)
from tests.unit.pipeline.statistics.lives import fleet_window, seen
from tests.unit.schemas.test_description import FULL, NOW
from tests.unit.schemas.test_event import GO_EVENT

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"

CHANGE = MachineChange(
    id="rack4-07", version=12, kinds=[ChangeKind.MODE], who="me@example.org", description=FULL
)


(STATS, *_) = fleet_window(seen("rack4-07", 1, 0, Health.DOWN), seen("rack4-07", 2, 30, Health.AVAILABLE))


COMMAND = PowerCommand(
    id="01KJKB3Q000000000600001BAR",
    machine_id="rack4-07",
    action=PowerAction.CYCLE,
    delay_s=7.5,
    who="me@example.org",
    requested_at=NOW,
    expires_at=NOW,
)
STEP = PowerStep(
    command_id=COMMAND.id,
    machine_id="rack4-07",
    status=PowerStatus.OFF,
    at=NOW,
    agent="rack4",
    command=COMMAND,
)
REPORT = ControllerReport(
    machine_id="rack4-07",
    state=PowerCycleState.IN_ERROR,
    agent="rack4",
    controller="edgeswitch/rack4-switch1",
    port="7",
    at=NOW,
    text="no answer",
)
RECORD = PowerRecord(
    command=COMMAND, status=PowerStatus.OFF, steps=[PowerMoment(status=PowerStatus.QUEUED, at=NOW)]
)


def committed(name: str) -> Any:
    return json.loads((CONTRACTS / name).read_text())


def test_the_committed_documents_are_those_of_the_models() -> None:
    """`make contracts` was run after the last change of a model."""
    expected = documents(version("labkeeper"))

    assert {path.name: path.read_text() for path in CONTRACTS.glob("*.json")} == expected


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("event.schema.json", GO_EVENT),
        ("event.schema.json", '{"type": "raw_state", "unknown": 1}'),
        ("description.schema.json", FULL.model_dump_json()),
        ("machine-change.schema.json", CHANGE.model_dump_json()),
        ("fleet-stats.schema.json", STATS.model_dump_json()),
        ("power-command.schema.json", COMMAND.model_dump_json()),
        ("power-step.schema.json", STEP.model_dump_json()),
        ("controller-report.schema.json", REPORT.model_dump_json()),
        ("power-record.schema.json", RECORD.model_dump_json()),
    ],
)
def test_what_we_write_satisfies_the_schema(schema: str, message: str) -> None:
    """A program that validates with the committed schema takes our messages."""
    jsonschema.validate(json.loads(message), committed(schema))


def test_what_we_refuse_the_schema_refuses() -> None:
    """The schema is not just a formality."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"android": {"uptime": "5"}}, committed("event.schema.json"))


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    """Channels, operations and payloads point at things that exist."""
    document = committed("asyncapi.json")
    references = list(_references(document))

    assert len(references) > 8
    for reference in references:
        if reference.startswith("./"):
            assert (CONTRACTS / reference).is_file()
        else:
            target = document
            for part in reference.removeprefix("#/").split("/"):
                target = target[part]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for value in node for found in _references(value)] if isinstance(node, list) else []


def test_an_event_of_the_future_is_still_an_event() -> None:
    """A newer producer's fields are ignored, not refused."""
    assert (
        Event.model_validate_json('{"type": "raw_state", "host": {"name": "m", "rack": 4}}').host.name == "m"
    )
