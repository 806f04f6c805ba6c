"""The Faust app's table: machine id to record, as bytes of our own, with its changelog topic.

Three things differ from Faust's table. Whoever changes it can wait until the changelog has it: Faust flushes its producer
before it commits, but goes on when that takes longer than a moment, and then a killed worker has lost what it had
committed. And of two records of one machine the one with the higher version stays, in whatever order they lie in the
changelog: a worker that slept through its expulsion may still write there when it wakes. For the same reason the empty value
by which a machine is forgotten says in a header which version it forgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import faust
from faust.streams import current_event
from faust.tables.table import Table

from pipeline.statistics.record import Record

_NAME: Final = "machines"
_VERSION: Final = "version"


class RecordTable(Table[bytes, bytes]):
    """See the module."""

    def __init__(self, app: Any, *, partitions: int, window_ms: int) -> None:
        super().__init__(
            app,
            name=_NAME,
            partitions=partitions,
            key_type=bytes,
            value_type=bytes,
            extra_topic_configs={
                "min.compaction.lag.ms": 3_600_000
            },  # time to tell a sleeper's record from a newer one
        )
        self._window_ms = window_ms
        self._unwritten: list[Any] = []
        self._partitions: dict[bytes, int] = {}
        """Of the changelog: where a machine's record lies."""

    def send_changelog(self, *arguments: Any, **options: Any) -> Any:
        """Faust's hook for every change; remembers the promise."""
        promise = super().send_changelog(*arguments, **options)
        self._unwritten.append(promise)
        return promise

    def take_unwritten(self) -> list[Any]:
        """Promises of the changes since the last call; awaiting one means that the changelog has it."""
        promises, self._unwritten = self._unwritten, []
        return promises

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Faust's hook for recovery."""
        super().apply_changelog_batch(list(self._newest(batch)))

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        """Faust's hook for the end of recovery: read nothing until it has sought the committed positions.

        Faust goes on reading while it seeks, and then drops some of what it has read; it lets the reading flow again itself.
        """
        await super().on_recovery_completed(active_tps, standby_tps)
        self.app.consumer.stop_flow()

    def _newest(self, batch: Iterable[Any]) -> Iterator[Any]:
        seen: dict[bytes, int] = {}
        for event in batch:
            key = event.message.key
            known = self.data.get(key)
            before = seen.get(key, 0 if known is None else self._read(known).version)
            version = self._version(event.message)
            if version >= before:
                seen[key] = version
                self._partitions[key] = event.message.partition
                yield event

    def _version(self, message: Any) -> int:
        if message.value is None:
            return int(dict(message.headers or ())[_VERSION])
        return self._read(message.value).version

    def record(self, machine_id: str) -> Record | None:
        """What is remembered of the machine."""
        value = self.data.get(machine_id.encode())
        return None if value is None else self._read(value)

    def set_record(self, machine_id: str, record: Record) -> None:
        """Remember; only while an event of the machine's partition is processed."""
        key = machine_id.encode()
        self[key] = record.to_json()
        event = current_event()
        assert event is not None  # or Faust had refused
        self._partitions[key] = event.message.partition

    def forget_gone(self, seen: Mapping[str, Record]) -> None:
        """Drop, here and in the changelog, those of the machines of which nothing is told any more.

        Judged by the highest floor among the others: that is where a new worker goes on.
        """
        floor = max((each.floor for each in seen.values() if each.spans[-1].health is not None), default=0)
        for machine_id in [name for name, each in seen.items() if each.is_gone(floor)]:
            record = self.record(machine_id)
            if record is not None and record.is_gone(floor):  # has not come back since it was seen
                self._forget(machine_id.encode(), record.version)

    def _forget(self, key: bytes, version: int) -> None:
        promise = self.changelog_topic.send_soon(
            key=key,
            value=None,
            partition=self._partitions.pop(key),
            headers={_VERSION: str(version).encode()},
            key_serializer="raw",
            value_serializer="raw",
            eager_partitioning=True,
        )
        self._unwritten.append(promise)
        self.data.pop(key, None)

    def records(self) -> Mapping[str, Record]:
        """All of them."""
        return {key.decode(): self._read(value) for key, value in self.data.items()}

    def _read(self, value: bytes) -> Record:
        return Record.from_json(value, window_ms=self._window_ms)


def changelog_of(app_id: str) -> str:
    """The full name of the table's changelog topic."""
    return f"{app_id}-{_NAME}-changelog"


def make_app(
    app_id: str, servers: Iterable[str], options: Mapping[str, Any], *, replication: int, folder: str
) -> Any:
    """A Faust app that makes no topics but its table's changelog, serves nothing, and commits what we acknowledge.

    In `folder` it makes some folders, and leaves them empty.
    """
    return faust.App(
        app_id,
        broker=";".join(f"kafka://{server}" for server in servers),
        broker_credentials=_credentials(options),
        broker_commit_interval=1.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=1.0,
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        datadir=folder,
        topic_replication_factor=replication,
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,
        producer_acks=-1,
    )


def _credentials(options: Mapping[str, Any]) -> Any:
    """Faust's way to say what aiokafka's clients are told."""
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
