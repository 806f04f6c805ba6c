"""Topics on Kafka: what settings they need, creating them, and bringing the settings of those that exist into line.

What an operator has set more generously (a longer retention, larger messages) stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from aiokafka import errors
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from pipeline.broker.catalogue import MAX_MESSAGE_BYTES, Catalogue, partition_warnings
from pipeline.broker.kafka_client import ANSWER_S, Link
from pipeline.broker.kafka_inspector import Inspector
from pipeline.broker.protocol import TopicReport, TopicState
from pipeline.errors import BrokerUnavailable, Rejected
from schemas.topics import Topic

LARGEST_BATCH: Final = MAX_MESSAGE_BYTES + 1024 * 1024
"""Bytes: the largest message, its batch's header, and what compression may add to what cannot be compressed."""

_TOPIC: Final = 2
"""Kafka's number for a topic among the things that have settings."""
_SET: Final = 0
_CLUSTERS_CHOICE: Final = -1
_SAFE_REPLICAS: Final = 3
_CREATION_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.1
_LEAST: Final = (
    "retention.ms",
    "max.message.bytes",
    "delete.retention.ms",
    "min.compaction.lag.ms",
    "min.insync.replicas",
)
"""Settings of which more is as good."""
_FOR_EVER: Final = -1


class _AlteredConfigs(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _AlterConfigsV0(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlteredConfigs
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterConfigs(Request[_AlterConfigsV0]):  # type: ignore[misc]  # aiokafka has no types
    """IncrementalAlterConfigs, which aiokafka lacks: its AlterConfigs resets whatever it does not name."""

    API_KEY = 44

    def __init__(self, changes: Mapping[str, Mapping[str, str]]) -> None:
        self._changes = changes

    def build(self, request_struct_class: type[_AlterConfigsV0]) -> _AlterConfigsV0:
        """See the base class."""
        resources = [
            (_TOPIC, topic, [(name, _SET, value) for name, value in settings.items()])
            for topic, settings in self._changes.items()
        ]
        return request_struct_class(resources, False)


def settings_of(topic: Topic, *, replicas: int = 1) -> dict[str, str]:
    """What the topic needs. The broker stamps messages: their time is when it took them."""
    keep = str(topic.retention // timedelta(milliseconds=1))
    settings = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(LARGEST_BATCH)}
    if topic.compacted:
        # For as long as the retention every change can still be read, and every deletion, also by those who were away.
        settings |= {"cleanup.policy": "compact", "min.compaction.lag.ms": keep, "delete.retention.ms": keep}
    else:
        settings |= {"cleanup.policy": "delete", "retention.ms": keep}
    if replicas >= _SAFE_REPLICAS:
        settings["min.insync.replicas"] = "2"
    return settings


class TopicMaker:
    """Creates what is missing in one lab's catalogue."""

    def __init__(self, link: Link, inspector: Inspector, catalogue: Catalogue) -> None:
        self._link = link
        self._inspector = inspector
        self._catalogue = catalogue

    async def create(self, wanted: Mapping[str, int]) -> Sequence[TopicReport]:
        """See `protocol.Broker.create_topics`."""
        for name in wanted:
            self._catalogue.topic(name)
        topics = {self._catalogue.full_name(topic.name): topic for topic in self._catalogue}
        before = await self._inspector.describe(list(topics))
        counts = {name: wanted.get(topic.name, topic.partitions) for name, topic in topics.items()}
        missing = {name: topics[name] for name in topics if name not in before}
        created = await self._create(missing, counts) if missing else set()
        have = await self._replicas(list(topics))
        changed = await self._bring_into_line(topics, {name: len(each[0]) for name, each in have.items()})
        numbers = {name: len(have[name]) for name in topics}
        return [
            _report(name, number, wanted.get(topics[name].name, number), name in created, name in changed)
            for name, number in numbers.items()
        ]

    async def _create(self, topics: Mapping[str, Topic], counts: Mapping[str, int]) -> set[str]:
        """Create topics, and say which of them somebody else had not created meanwhile."""
        entries: list[Any] = [
            (name, counts[name], _CLUSTERS_CHOICE, [], list(settings_of(topic).items()))
            for name, topic in topics.items()
        ]
        async with self._link.asking("creating topics", seconds=_CREATION_S):
            response = await self._inspector.ask(
                CreateTopicsRequest(entries, int(ANSWER_S * 1000), validate_only=False)
            )
        created = set()
        for name, code, text in response.topic_errors:
            if errors.for_code(code) is errors.NoError:
                created.add(name)
            elif errors.for_code(code) is not errors.TopicAlreadyExistsError:
                raise _refused(f"create topic {name}", code, text)
        return created

    async def _replicas(self, names: Collection[str]) -> dict[str, Sequence[Sequence[int]]]:
        """The topics' partitions, once the new ones have got around in the cluster."""
        async with self._link.asking("waiting for new topics", seconds=_CREATION_S):
            while True:
                found = await self._inspector.describe_fully(list(names))
                if len(found) == len(names) and all(found.values()):
                    return found
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _bring_into_line(self, topics: Mapping[str, Topic], replicas: Mapping[str, int]) -> set[str]:
        present = await self._settings(topics)
        changes = {}
        for name, topic in topics.items():
            needed = settings_of(topic, replicas=replicas[name])
            differing = {
                key: value for key, value in needed.items() if not _fits(key, present[name].get(key), value)
            }
            if differing:
                changes[name] = differing
        if not changes:
            return set()
        async with self._link.asking("changing topics"):
            response = await self._inspector.ask(_AlterConfigs(changes))
        for code, text, _, name in response.responses:
            if code:
                raise _refused(f"change the settings of topic {name}", code, text)
        return set(changes)

    async def _settings(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        request = DescribeConfigsRequest([(_TOPIC, name, None) for name in names])
        async with self._link.asking("reading the settings of topics", seconds=_CREATION_S):
            while True:
                response = await self._inspector.ask(request)
                codes = {name: (code, text) for code, text, _, name, _ in response.resources if code}
                if not codes:
                    return {name: _values(entries) for _, _, _, name, entries in response.resources}
                for name, (code, text) in codes.items():
                    if not errors.for_code(code).retriable:
                        raise _refused(f"read the settings of topic {name}", code, text)
                await asyncio.sleep(_LOOK_AGAIN_S)  # a new topic, at a node that has not heard of it


def _values(entries: Sequence[Sequence[Any]]) -> dict[str, str]:
    return {entry[0]: entry[1] for entry in entries}


def _fits(key: str, have: str | None, needed: str) -> bool:
    if key not in _LEAST or have is None:
        return have == needed
    return int(have) >= int(needed) or (key == "retention.ms" and int(have) == _FOR_EVER)


def _report(name: str, have: int, wanted: int, created: bool, changed: bool) -> TopicReport:
    state = TopicState.CREATED if created else TopicState.CHANGED if changed else TopicState.UNCHANGED
    return TopicReport(name, have, state, partition_warnings(have, wanted))


def _refused(what: str, code: int, text: str | None) -> Rejected | BrokerUnavailable:
    error: Any = errors.for_code(code)
    reason = text or error.description or error.__name__
    if error.retriable:
        return BrokerUnavailable(f"kafka: cannot {what} now: {reason}")
    return Rejected(f"kafka refuses to {what}: {reason}. {_advice(error)}")


def _advice(error: type[errors.KafkaError]) -> str:
    if error in (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError):
        return "Use a user with the rights CREATE, DESCRIBE_CONFIGS and ALTER_CONFIGS on the lab's topics (docs/brokers.md)"
    if error is errors.PolicyViolationError:
        return "The cluster has a rule against it: ask its operators, or let them create it (docs/brokers.md has the settings)"
    return "docs/brokers.md has the settings that the topics need"
