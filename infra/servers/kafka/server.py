"""Apache Kafka for tests and for trying things out: one node, or a cluster of three. Data are meant to be thrown away.

Listens on loopback only. `python -m infra.servers.kafka --folder DIR` runs one until Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from infra.servers.child import free_ports
from infra.servers.kafka.jars import default_version, jars
from infra.servers.kafka.node import KafkaNode, copy_storage, format_storage
from infra.servers.kafka.properties import NodePlan

_NODES: Final = 3


class KafkaServer(KafkaNode):
    """A single node. Use as a context manager, or call `stop` in the end."""

    @classmethod
    def start(cls, folder: Path, *, version: str | None = None, port: int | None = None) -> Self:
        """Start a node with its data in `folder`, formatting it where that is new, and wait until it serves.

        `version` of Apache Kafka: None is the one in `pom.xml`. Without `port`, a free one. Raises `ServerUnavailable` when
        there is no Java or the jars cannot be fetched, `ServerFailed` when it does not start.
        """
        programs = jars(version or default_version())
        client_port, controller_port = free_ports(2)
        plan = NodePlan(
            node_id=1,
            folder=folder.absolute(),
            ports={"PLAINTEXT": port or client_port, "CONTROLLER": controller_port},
            voters={1: controller_port},
        )
        return cls.of(plan, programs)

    @classmethod
    def of(cls, plan: NodePlan, programs: Path, *, scram: Sequence[str] = ()) -> Self:
        """Start the only node of a cluster; `scram` as in `format_storage`, for a new one."""
        plan.write()
        if not plan.data.exists():
            format_storage(plan, programs, scram)
        server = cls(plan, programs)
        try:
            server.spawn()
            server.await_ready()
        except BaseException:
            server.kill()
            raise
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class KafkaCluster:
    """Three nodes; topics have three replicas of which two must have a message before it counts as taken."""

    def __init__(self, nodes: Sequence[KafkaNode]) -> None:
        self.nodes = nodes
        """To be killed, stopped, paused and restarted one by one."""

    @classmethod
    def start(cls, folder: Path, *, version: str | None = None) -> Self:
        """Start a new cluster with its data in `folder`, which is empty. Raises what `KafkaServer.start` does."""
        programs = jars(version or default_version())
        plans = _plans(folder.absolute())
        for plan in plans:
            plan.write()
        format_storage(plans[0], programs)
        for plan in plans[1:]:
            copy_storage(plans[0], plan)
        cluster = cls([KafkaNode(plan, programs) for plan in plans])
        try:
            for node in cluster.nodes:
                node.spawn()
            for node in cluster.nodes:
                node.await_ready(_NODES)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @property
    def bootstrap(self) -> str:
        """Addresses of all nodes."""
        return ",".join(node.bootstrap for node in self.nodes)

    @property
    def running(self) -> bool:
        """Whether any node's process has not ended."""
        return any(node.running for node in self.nodes)

    def stop(self) -> None:
        """End all nodes at once: in order they would wait for one another."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _plans(folder: Path) -> Sequence[NodePlan]:
    ports = free_ports(2 * _NODES)
    ids = range(1, _NODES + 1)
    voters = dict(zip(ids, ports[_NODES:], strict=True))
    return [
        NodePlan(
            node_id=node,
            folder=folder / f"node-{node}",
            ports={"PLAINTEXT": ports[node - 1], "CONTROLLER": voters[node]},
            voters=voters,
        )
        for node in ids
    ]
