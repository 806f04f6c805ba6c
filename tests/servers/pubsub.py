"""Google Pub/Sub for tests: Google's emulator, or Google's fake server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.servers.pubsub.server import PubsubServer, check_programs
from tests.servers.docker import Container
from tests.servers.kinds import OwnServer, ServerKind, TestServer


@contextmanager
def _fake(folder: Path) -> Iterator[str]:
    with PubsubServer.start(folder) as server:
        yield server.address


_FAKE: Final = OwnServer(words="Google's fake server pstest", check=check_programs, running=_fake)

PUBSUB: Final = ServerKind(
    name="Pub/Sub",
    variable="LABKEEPER_TEST_PUBSUB",
    container=Container(
        image="gcr.io/google.com/cloudsdktool/google-cloud-cli:emulators",
        port=8085,
        ready="Server started, listening on",
        command="gcloud beta emulators pubsub start --project=labkeeper-test --host-port=0.0.0.0:8085",
    ),
    own=_FAKE,
)


def is_fake(server: TestServer) -> bool:
    """Whether it is the fake, whose gaps are known, and neither the emulator nor a server that somebody gave us."""
    return server.choice == _FAKE.words
