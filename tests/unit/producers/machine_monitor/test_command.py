from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.errors import Misconfigured
from producers.machine_monitor.__main__ import command

SHOW = ("--once", "--print", "--machine-id", "machine-1")


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in ("LABKEEPER_URL", "LABKEEPER_TOKEN", "LABKEEPER_TOKEN_FILE", "LABKEEPER_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner(env={"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--print"], "--print goes with --once"),
        ([], "say where to send events"),
        (["--once"], "say where to send events"),
        (["--once", "--print", "--machine-id", "a b"], "a machine id has 1 to 128 letters"),
        ([*SHOW, "--port", "65536"], "expected a port"),
        ([*SHOW, "--port", "http"], "expected a port"),
        ([*SHOW, "--period", "0"], "0.1<=x<=86400"),
        ([*SHOW, "--attached-device", "toaster"], "'toaster' is not one of"),
        ([*SHOW, "--start-swarming"], "needs --swarming-bot-zip and --python-exe"),
        ([*SHOW, "--token-file", "/nonexistent"], "does not exist"),
    ],
)
def test_wrong_usage_is_told(runner: CliRunner, arguments: list[str], message: str) -> None:
    result = runner.invoke(command, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SHOW, "--url", "lab"], "'lab' is no server address"),
        (
            [*SHOW, "--start-swarming", "--swarming-bot-zip=b", "--python-exe=/p"],
            "--swarming-bot-zip must be an absolute path",
        ),
    ],
)
def test_a_wrong_setting_is_told(runner: CliRunner, arguments: list[str], message: str) -> None:
    result = runner.invoke(command, arguments)
    assert isinstance(result.exception, Misconfigured)
    assert message in str(result.exception)
