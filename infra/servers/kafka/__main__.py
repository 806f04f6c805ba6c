"""`python -m infra.servers.kafka --folder DIR`: Apache Kafka until Ctrl-C. Prints the address to connect to."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from infra.servers.foreground import run_until_interrupted
from infra.servers.kafka.jars import default_version
from infra.servers.kafka.server import KafkaCluster, KafkaServer


def main() -> None:
    """Run a server until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m infra.servers.kafka", description="Run Apache Kafka.")
    parser.add_argument("--folder", type=Path, required=True, help="for its data; made if missing")
    parser.add_argument("--port", type=int, help="where it listens; without it, a free one")
    parser.add_argument("--version", default=default_version(), help="of Apache Kafka (%(default)s)")
    parser.add_argument("--cluster", action="store_true", help="three nodes, on free ports, in a new folder")
    given = parser.parse_args()
    if given.cluster and (given.port or given.folder.exists()):
        parser.error("--cluster chooses its ports and wants a folder that does not exist yet")

    def start() -> AbstractContextManager[KafkaServer | KafkaCluster]:
        if given.cluster:
            return KafkaCluster.start(given.folder, version=given.version)
        return KafkaServer.start(given.folder, version=given.version, port=given.port)

    run_until_interrupted(start, lambda server: [server.bootstrap])


if __name__ == "__main__":
    main()
