"""Message metadata: CloudEvents 1.0, binary mode. The value stays bare JSON; a message without metadata is accepted.

Kafka's binding writes `ce_<attribute>` headers; the broker adapters keep that spelling everywhere.
"""

from __future__ import annotations

from typing import Final

from schemas.ids import new_ulid

SPEC_VERSION: Final = "ce_specversion"
ID: Final = "ce_id"
SOURCE: Final = "ce_source"
TYPE: Final = "ce_type"
CONTENT_TYPE: Final = "content-type"
TRACE_PARENT: Final = "traceparent"

EVENT_TYPE: Final = "dev.labkeeper.machine.event"
CHANGE_TYPE: Final = "dev.labkeeper.machine.change"
STATS_TYPE: Final = "dev.labkeeper.fleet.stats"
POWER_COMMAND_TYPE: Final = "dev.labkeeper.power.command"
POWER_RESULT_TYPE: Final = "dev.labkeeper.power.result"

ROW_VERSION: Final = "labkeeper_version"
"""On the empty message that tells of a deletion: the version it has, so that it can be told from an older one."""

DEAD_REASON: Final = "dead_reason"
DEAD_TOPIC: Final = "dead_topic"
DEAD_PARTITION: Final = "dead_partition"
DEAD_OFFSET: Final = "dead_offset"
DEAD_TIME: Final = "dead_time"

DEAD_HANDLED: Final = "dead_handled"
"""On an empty message of a dead-letter topic: `partition:offset` of the letter of that topic that is dealt with. A marker,
because no topic can forget a single message; it has no `dead_reason`, and its `dead_time` is when it was done."""
DEAD_OUTCOME: Final = "dead_outcome"
"""On a marker: `replayed` or `dropped`."""
DEAD_WHO: Final = "dead_who"
"""On a marker: the person who did it, `user@host`."""


def metadata(
    kind: str, source: str, *, message_id: str | None = None, trace_parent: str | None = None
) -> dict[str, str]:
    """Headers of a message of the given CloudEvents type from the given source (a URI reference).

    Source and id together name the message; without an id it gets a new ULID.
    """
    headers = {
        SPEC_VERSION: "1.0",
        ID: message_id or new_ulid(),
        SOURCE: source,
        TYPE: kind,
        CONTENT_TYPE: "application/json",
    }
    return headers if trace_parent is None else {**headers, TRACE_PARENT: trace_parent}
