"""`python -m tests.programs`: fetch and build what the tests' servers and checks are made of, so that no test waits for it.

Each is made when a test first needs it, too. What cannot be had is said here, and by the tests that are skipped for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from infra.servers.errors import ServerUnavailable
from infra.servers.go_program import go_program
from infra.servers.kafka.jars import default_version, jars
from infra.servers.pubsub.server import program as pubsub_server
from tests.cockroachdb.program import parser


def compose_loader() -> Path:
    """Reads a project as Docker Compose does. Raises `ServerUnavailable` when it cannot be built."""
    return go_program("compose-loader", Path(__file__).with_name("deployment") / "compose_loader")


_PROGRAMS: Final[Mapping[str, Callable[[], Path]]] = {
    "Apache Kafka": lambda: jars(default_version()),
    "Google's fake Pub/Sub": pubsub_server,
    "Docker Compose's loader": compose_loader,
    "CockroachDB's parser": parser,
}


def main() -> None:
    """Make all of them, and say how it went."""
    for name, make in _PROGRAMS.items():
        try:
            make()
        except ServerUnavailable as error:
            print(f"{name}: not to be had: {error}", file=sys.stderr)  # noqa: T201  # a command
        else:
            print(f"{name}: ready", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
