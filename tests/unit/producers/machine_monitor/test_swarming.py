from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from producers.machine_monitor.swarming import (
    SwarmingFailed,
    SwarmingSettings,
    bot_environment,
    parse_access_token,
    swarming_server,
)


@pytest.mark.parametrize(
    ("machine_id", "server"),
    [
        ("skia-i-rpi-001", "https://chrome-swarming.appspot.com"),
        ("skia-d-gce-100", "https://chromium-swarm-dev.appspot.com"),
        ("skia-e-linux-001", "https://chromium-swarm.appspot.com"),
        ("anything", "https://chromium-swarm.appspot.com"),
    ],
)
def test_a_machine_belongs_to_a_server_by_its_id(machine_id: str, server: str) -> None:
    assert swarming_server(machine_id) == server


def test_the_access_token_is_found() -> None:
    assert parse_access_token(b'{"access_token": "ya29.x", "expires_in": 3599}') == "ya29.x"


def test_little_of_a_broken_answer_is_shown() -> None:
    with pytest.raises(SwarmingFailed, match=r"Failed to decode metadata: '<html>secr'$"):
        parse_access_token(b"<html>secret things</html>")


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"access_token": ""}', b'{"access_token": "a\\nb"}'])
def test_an_answer_without_a_token_is_an_error(content: bytes) -> None:
    with pytest.raises(SwarmingFailed, match="no usable access_token"):
        parse_access_token(content)


def test_tasks_learn_the_machines_id_but_none_of_our_secrets() -> None:
    environment = {"PATH": "/bin", "LABKEEPER_TOKEN": "s3cret", "LABKEEPER_DATABASE_URL": "postgresql://x"}
    assert bot_environment(environment, "machine-1") == {"PATH": "/bin", "SWARMING_BOT_ID": "machine-1"}


@pytest.mark.parametrize(("bot_zip", "python"), [("bot.zip", "/usr/bin/python3"), ("/bot.zip", "python3")])
def test_paths_must_be_absolute(bot_zip: str, python: str) -> None:
    with pytest.raises(Misconfigured, match="absolute"):
        SwarmingSettings(Path(bot_zip), Path(python))
