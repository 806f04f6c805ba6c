"""`python -m infra.servers.pubsub`: the fake Pub/Sub server until Ctrl-C. Prints what to put into the environment."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from infra.servers.foreground import run_until_interrupted
from infra.servers.pubsub.server import PubsubServer


def main() -> None:
    """Run a server until told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.servers.pubsub", description="Run a fake of Google Pub/Sub."
    )
    parser.add_argument("--port", type=int, help="where it listens; without it, a free one")
    port: int | None = parser.parse_args().port
    with tempfile.TemporaryDirectory(prefix="labkeeper-") as folder:
        run_until_interrupted(
            lambda: PubsubServer.start(Path(folder), port=port),
            lambda server: [f"export PUBSUB_EMULATOR_HOST={server.address}"],
        )


if __name__ == "__main__":
    main()
