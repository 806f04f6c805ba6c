"""A mistake in what is configured ends every command with the same exit code, and a sentence that names it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.command import ExitCode, exit_code_of
from pipeline.errors import (
    KeyReused,
    LabkeeperError,
    MachineNotFound,
    Misconfigured,
    PowerRefused,
    StoreUnavailable,
    TooManyRejects,
    TurnedAway,
)
from producers.labkeeper import catalogue
from tests.unit.producers.labkeeper.command_line import labkeeper

FILES = {
    "kafka.properties": "security.protocol=nonsense\n",
    "bad.json5": "{",
    "bad.tokens": "admin:x\n",
    "empty": "",
}
"""By name: what none of our commands can use."""
DATABASE = ("--database-url", "postgresql://nowhere/lab")
KAFKA = (*DATABASE, "--broker", "kafka", "--kafka-config", "kafka.properties")
TOKEN = ("--token-file", "empty")
POLICY = "bad.json5"

MISTAKES: dict[str, tuple[str, ...]] = {
    "up": ("--data", "lab", "--heal-policy", POLICY),
    "status": TOKEN,
    "machines list": TOKEN,
    "machines show": ("m", *TOKEN),
    "machines history": ("m", *TOKEN),
    "machines watch": TOKEN,
    "machines maintenance": ("on", "m", *TOKEN),
    "machines note": ("m", "--message", "x", *TOKEN),
    "machines set-device": ("adb", "m", *TOKEN),
    "machines clear-quarantine": ("m", *TOKEN),
    "machines delete": ("m", "--yes", *TOKEN),
    "power cycle": ("m", *TOKEN),
    "power on": ("m", *TOKEN),
    "power off": ("m", *TOKEN),
    "power cancel": ("m", *TOKEN),
    "power get": ("m", *TOKEN),
    "power list": TOKEN,
    "power history": TOKEN,
    "power check": ("bad.json5",),
    "power trust": ("bad.json5",),
    "silences": ("list", *TOKEN),
    "fleet stats": TOKEN,
    "heal explain": ("m", *TOKEN),
    "heal check": (POLICY,),
    "monitor": ("--once", "--url", "http://127.0.0.1:9?x"),
    "simulator": KAFKA,
    "facade": KAFKA,
    "writer": KAFKA,
    "relay": KAFKA,
    "watchdog": (*DATABASE, "--heal-policy", POLICY),
    "powercycle-agent": (*KAFKA, "--config", "bad.json5"),
    "fleet-stats": KAFKA,
    "notifier": (*DATABASE, "--config", "bad.json5", "--test"),
    "swarming-poller": ("--bots", "https://s.example=Skia", *KAFKA),
    "db": ("status", "--database-url", "postgresql://localhost:port/lab"),
    "topics": ("create", *KAFKA),
    "token": ("list", "--file", "bad.tokens"),
    "dead": ("list", *KAFKA),
}
"""By command: how to call it where something that it needs is set up wrongly."""
WITHOUT_SETTINGS = {"schemas", "completion", "power drivers"}
GROUPS = {
    "machines": catalogue.MACHINE_COMMANDS,
    "power": catalogue.POWER_COMMANDS,
    "heal": catalogue.HEAL_COMMANDS,
    "fleet": catalogue.FLEET_COMMANDS,
}


def commands() -> Iterator[str]:
    """All that the catalogue names."""
    for entry in catalogue.COMMANDS:
        members = GROUPS.get(entry.name)
        yield from [entry.name] if members is None else [f"{entry.name} {each.name}" for each in members]


def test_every_command_is_looked_at_here() -> None:
    assert set(commands()) == MISTAKES.keys() | WITHOUT_SETTINGS


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_in_what_is_configured_has_one_exit_code(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)

    result = labkeeper(*command.split(), *MISTAKES[command])

    assert result.code == ExitCode.USAGE, result.err
    assert "Usage:" not in result.err, "that is a mistake in what was typed"
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Misconfigured("x"), ExitCode.USAGE),
        (TurnedAway("x"), ExitCode.DENIED),
        (StoreUnavailable("x"), ExitCode.UNREACHABLE),
        (MachineNotFound("m"), ExitCode.NOT_FOUND),
        (TooManyRejects("x"), ExitCode.CONFLICT),
        (PowerRefused("maintenance", "x"), ExitCode.FAILED),
        (KeyReused("m", ["why"]), ExitCode.FAILED),
    ],
)
def test_each_kind_of_error_has_its_code(error: LabkeeperError, code: ExitCode) -> None:
    assert exit_code_of(error) is code
