"""What a broker of ours is told: `server.properties` for tests, where starting and failing over are quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.servers.child import HOST

_ALWAYS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Each partition of these two costs a file or three; nobody here needs fifty.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "2",
    # Retention and compaction that can be watched.
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "500",
    "log.initial.task.delay.ms": "1000",
    # Little memory, few threads.
    "log.segment.bytes": str(64 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    # A dead broker is noticed within seconds.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "replica.lag.time.max.ms": "5000",
}


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node, which is broker and controller."""

    node_id: int
    folder: Path
    ports: Mapping[str, int]
    """By listener name: PLAINTEXT, CONTROLLER, and what else clients shall find."""
    voters: Mapping[int, int]
    """Controller port of every node of the cluster, by node id."""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def properties_file(self) -> Path:
        """Holds passwords where there are some."""
        return self.folder / "server.properties"

    @property
    def data(self) -> Path:
        """Kafka's log folder."""
        return self.folder / "data"

    def properties(self) -> Mapping[str, str]:
        """The whole of `server.properties`."""
        listeners = [f"{name}://{HOST}:{port}" for name, port in self.ports.items()]
        return {
            **_ALWAYS,
            **_replication(len(self.voters)),
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(
                f"{node}@{HOST}:{port}" for node, port in self.voters.items()
            ),
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(each for each in listeners if not each.startswith("CONTROLLER")),
            "listener.security.protocol.map": ",".join(_protocols(list(self.ports))),
            "log.dirs": str(self.data),
            **self.extra,
        }

    def write(self) -> None:
        """Write the properties, for nobody else to read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties_file.touch(mode=0o600)
        lines = [f"{name}={_escaped(value)}\n" for name, value in self.properties().items()]
        self.properties_file.write_text("".join(lines), encoding="utf-8")


def _replication(nodes: int) -> Mapping[str, str]:
    in_sync = 2 if nodes > 2 else 1
    return {
        "default.replication.factor": str(nodes),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(nodes),
        "transaction.state.log.replication.factor": str(nodes),
        "transaction.state.log.min.isr": str(in_sync),
    }


def _protocols(listeners: Sequence[str]) -> Sequence[str]:
    return [f"{name}:{'PLAINTEXT' if name == 'CONTROLLER' else name}" for name in listeners]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
