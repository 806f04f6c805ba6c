"""One Kafka node: a JVM that is broker and controller, with its storage."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra.servers.child import HOST, Child
from infra.servers.errors import ServerFailed
from infra.servers.kafka.jars import java
from infra.servers.kafka.properties import NodePlan
from infra.servers.kafka.wire import brokers_seen

_START_S: Final = 120
_STOP_S: Final = 15
_FORMAT_S: Final = 120
# For a start within seconds: no second compiler, no parallel collector.
_JVM: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData")
_LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
_HEAP: Final = ("-Xms128m", "-Xmx384m")


class KafkaNode:
    """A node whose storage is formatted; running or not."""

    def __init__(self, plan: NodePlan, jars: Path) -> None:
        self._plan = plan
        self._jars = jars
        self._child: Child | None = None

    @property
    def node_id(self) -> int:
        """As the cluster knows it."""
        return self._plan.node_id

    @property
    def bootstrap(self) -> str:
        """Address of the listener that asks nobody who they are."""
        return self.address("PLAINTEXT")

    @property
    def running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self._child is not None and self._child.running

    def address(self, listener: str) -> str:
        """`host:port` of a listener."""
        return f"{HOST}:{self._plan.ports[listener]}"

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        self._child = Child(
            [
                java(),
                *_HEAP,
                *_JVM,
                *_LOGGING,
                "-cp",
                f"{self._jars}/*",
                "kafka.Kafka",
                self._plan.properties_file,
            ],
            self._plan.folder / "server.log",
        )

    def await_ready(self, brokers: int = 1) -> None:
        """Return once the node serves and sees itself and in all `brokers` brokers up."""
        assert self._child is not None
        self._child.await_ready(lambda: self._sees(brokers), f"Kafka node {self.node_id}", _START_S)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        """End it in order: it hands its partitions to other nodes, if there are some."""
        if self._child is not None and self._child.running:
            self._child.stop(_STOP_S)

    def restart(self) -> None:
        """Start again, on the same ports and data, and wait until it serves; stops it first if it is running."""
        self.stop()
        self.spawn()
        self.await_ready()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and nothing answers."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        if self._child is not None:
            self._child.resume()

    def _sees(self, brokers: int) -> bool:
        seen = brokers_seen(self._plan.ports["PLAINTEXT"])
        return self.node_id in seen and len(seen) >= brokers


def format_storage(plan: NodePlan, jars: Path, scram: Sequence[str] = ()) -> None:
    """Prepare a node's empty storage; `scram` are credentials in the words of Kafka's own storage tool."""
    command = [java(), "-Xmx128m", *_JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*"]
    credentials = [part for each in scram for part in ("--add-scram", each)]
    done = subprocess.run(  # noqa: S603  # no shell
        [
            *command,
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            _new_id(),
            "--config",
            plan.properties_file,
            *credentials,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_FORMAT_S,
        check=False,
    )
    if done.returncode != 0:
        raise ServerFailed(f"Kafka could not format its storage: {' '.join(done.stderr.split())[-600:]}")


def copy_storage(formatted: NodePlan, plan: NodePlan) -> None:
    """Prepare another node's storage for the same cluster: sooner done than with another JVM."""
    shutil.copytree(formatted.data, plan.data)
    about = plan.data / "meta.properties"
    text = re.sub(r"(?m)^node\.id=.*$", f"node.id={plan.node_id}", about.read_text())
    about.write_text(re.sub(r"(?m)^directory\.id=.*$", f"directory.id={_new_id()}", text))


def _new_id() -> str:
    """A random id in Kafka's spelling."""
    while True:
        text = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # as Kafka itself avoids: it would look like an option
            return text
