"""The contracts as documents for programs that are not ours: JSON Schemas and one AsyncAPI 3 document.

`labkeeper schemas write docs/contracts` writes them; a test fails when the committed ones are stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from schemas import envelope, topics
from schemas.changes import HistoryEntry, MachineChange
from schemas.description import Description
from schemas.event import Event
from schemas.fleet_stats import FleetStats
from schemas.power import ControllerReport, PowerCommand, PowerRecord, PowerStep
from schemas.wire import WireModel

MODELS: Final[Mapping[str, type[WireModel]]] = {
    "event": Event,
    "description": Description,
    "machine-change": MachineChange,
    "history-entry": HistoryEntry,
    "fleet-stats": FleetStats,
    "power-command": PowerCommand,
    "power-step": PowerStep,
    "controller-report": ControllerReport,
    "power-record": PowerRecord,
}

_HEADERS: Final = {
    envelope.SPEC_VERSION: "CloudEvents version, `1.0`.",
    envelope.ID: "ULID of the message.",
    envelope.SOURCE: "Who published it, a URI reference such as `/machine-monitor/rack4-07`.",
    envelope.TYPE: "CloudEvents type.",
    envelope.CONTENT_TYPE: "`application/json`.",
    envelope.TRACE_PARENT: "W3C trace context.",
}

_DEAD_HEADERS: Final = {
    envelope.DEAD_REASON: "Why the message could not be processed; names the field.",
    envelope.DEAD_TOPIC: "Where it came from.",
    envelope.DEAD_PARTITION: "Partition there.",
    envelope.DEAD_OFFSET: "Offset there.",
    envelope.DEAD_TIME: "When it was parked, RFC 3339.",
}


def documents(version: str) -> dict[str, str]:
    """File name to content, for all contracts."""
    files = {f"{name}.schema.json": _json_schema(name, model) for name, model in MODELS.items()}
    files["asyncapi.json"] = asyncapi(version)
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in files.items()
    }


def _json_schema(name: str, model: type[WireModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{name}.schema.json", **schema}


def asyncapi(version: str) -> dict[str, Any]:
    """The topics, what they carry and who writes and reads them, as AsyncAPI 3.0."""
    return {
        "asyncapi": "3.0.0",
        "info": _info(version),
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": {**_machine_operations(), **_power_operations()},
        "components": {"messages": {**_machine_messages(), **_power_messages(), **_bare_messages()}},
    }


def _info(version: str) -> dict[str, Any]:
    return {
        "title": "Labkeeper",
        "version": version,
        "description": "The key of a message is the machine id, on `fleet.stats` the pool; messages with one key keep their order. "
        "On Kafka it is the record's key. On Pub/Sub it is the attribute `labkeeper_key`, and the ordering key is the "
        "number of the partition, in decimal: CRC-32 of the key, modulo the number of partitions. The value is bare JSON; "
        "metadata travels as CloudEvents binary-mode headers, on Pub/Sub as attributes. A message without them is accepted.",
        "license": {"name": "Apache-2.0"},
    }


def _channels() -> dict[str, Any]:
    return {
        "machineEvents": _channel(topics.MACHINE_EVENTS, "MachineEvent"),
        "machineChanges": _channel(topics.MACHINE_CHANGES, "MachineChange", "MachineDeleted"),
        "fleetStats": _channel(topics.FLEET_STATS, "FleetStats"),
        "powerCommands": _channel(topics.POWER_COMMANDS, "PowerCommand"),
        "powerResults": _channel(topics.POWER_RESULTS, "PowerStep", "ControllerReport"),
        "deadMachineEvents": _channel(topics.dead_letters_of(topics.MACHINE_EVENTS), "DeadLetter"),
        "deadPowerResults": _channel(topics.dead_letters_of(topics.POWER_RESULTS), "DeadLetter"),
    }


def _machine_operations() -> dict[str, Any]:
    return {
        "takeEvents": _operation(
            "receive", "machineEvents", "The description writer applies events to rows."
        ),
        "tellChanges": _operation(
            "send",
            "machineChanges",
            "The description writer and the outbox relay tell what became of a machine.",
        ),
        "tellStats": _operation(
            "send",
            "fleetStats",
            "The fleet statistics tell of each pool, and of the whole fleet, window by window.",
        ),
        "parkEvents": _operation(
            "send", "deadMachineEvents", "What can never be processed, with the reason."
        ),
    }


def _machine_messages() -> dict[str, Any]:
    return {
        "MachineEvent": _message("What a machine reports", "event", envelope.EVENT_TYPE),
        "MachineChange": _message(
            "A machine's new state: all of it, with a version", "machine-change", envelope.CHANGE_TYPE
        ),
        "FleetStats": _message(
            "How a pool did in a window; of two about the same window the later counts",
            "fleet-stats",
            envelope.STATS_TYPE,
        ),
    }


def _bare_messages() -> dict[str, Any]:
    """Those whose value is no model of ours."""
    version = {envelope.ROW_VERSION: "Version of the deletion: of two messages the higher is newer."}
    return {
        "MachineDeleted": {
            "summary": "The machine with this key was deleted; the value is empty",
            "headers": _headers({**_HEADERS, **version}),
            "payload": {"type": "null"},
        },
        "DeadLetter": {
            "summary": "The original bytes of a message that could not be processed",
            "headers": _headers({**_HEADERS, **_DEAD_HEADERS}),
            "payload": {},
        },
    }


def _power_operations() -> dict[str, Any]:
    return {
        "orderPower": _operation(
            "send", "powerCommands", "The outbox relay tells of commands, and of those that were withdrawn."
        ),
        "carryOutPower": _operation(
            "receive", "powerCommands", "Every agent reads all commands, and carries out those for its ports."
        ),
        "tellPower": _operation(
            "send", "powerResults", "Agents tell each step of a command, and whether controllers answer."
        ),
        "takePower": _operation("receive", "powerResults", "The description writer applies them to rows."),
        "parkPower": _operation("send", "deadPowerResults", "What can never be processed, with the reason."),
    }


def _power_messages() -> dict[str, Any]:
    return {
        "PowerCommand": _message(
            "Drive the power of one machine; of two with one id, that with `cancelled` counts",
            "power-command",
            envelope.POWER_COMMAND_TYPE,
        ),
        "PowerStep": _message(
            "What became of a command; `type` is `step`", "power-step", envelope.POWER_RESULT_TYPE
        ),
        "ControllerReport": _message(
            "Whether the controller of a machine's port answers; `type` is `report`",
            "controller-report",
            envelope.POWER_RESULT_TYPE,
        ),
    }


def _channel(topic: str, *messages: str) -> dict[str, Any]:
    return {
        "address": f"{topics.DEFAULT_PREFIX}.{topic}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(summary: str, schema: str, kind: str) -> dict[str, Any]:
    headers = {**_HEADERS, envelope.TYPE: f"`{kind}`"}
    return {"summary": summary, "headers": _headers(headers), "payload": {"$ref": f"./{schema}.schema.json"}}


def _headers(described: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in described.items()},
    }
