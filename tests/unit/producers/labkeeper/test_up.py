"""What `labkeeper up` refuses before it starts anything."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import pytest

from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import Misconfigured
from producers.labkeeper.catalogue import FILE_CHECKS
from producers.labkeeper.umbrella import check_file
from producers.labkeeper.up import command


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LABKEEPER_TOKEN", raising=False)
    monkeypatch.delenv("LABKEEPER_TOKEN_FILE", raising=False)
    file = tmp_path / "tokens"
    file.write_text("")
    return file


def test_where_tokens_are_wanted_our_own_monitor_needs_one(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"token new --role operator.*LABKEEPER_TOKEN"):
        command.main(["--tokens", str(tokens), "--data", str(tmp_path / "data")], standalone_mode=False)

    assert not (tmp_path / "data").exists()


def test_an_open_lab_that_others_can_reach_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"0\.0\.0\.0 can be reached from other hosts.*--tokens"):
        command.main(["--host", "0.0.0.0", "--data", str(tmp_path / "data")], standalone_mode=False)

    assert not (tmp_path / "data").exists()


def test_nothing_works_on_windows_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")

    with pytest.raises(CommandFailed, match="needs Linux or macOS"):
        command.main(["--data", str(tmp_path / "data")], standalone_mode=False)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--pool", "Phones", "expected NAME=REGEX"),
        ("--pool", "Phones=(", "not a regular expression"),
        ("--pool-period", "Phones=often", "expected POOL=SECONDS"),
        ("--period", "0", "not in the range"),
    ],
)
def test_pools_and_periods_that_make_no_sense_are_refused_at_once(
    tmp_path: Path, option: str, value: str, told: str
) -> None:
    with pytest.raises(click.BadParameter, match=told):
        command.main([option, value, "--data", str(tmp_path / "data")], standalone_mode=False)

    assert not (tmp_path / "data").exists()


def test_files_that_a_service_would_not_take_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    names = {
        "--powercycle-config": ("power.json5", "{edgeswich: {}}"),
        "--heal-policy": ("heal.json5", "{pools: {'*': {afte: '10m'}}}"),
        "--notifier-config": ("notifier.json5", "{channels: {}"),
    }
    arguments = ["--data", str(tmp_path / "data")]
    for option, (name, text) in names.items():
        (tmp_path / name).write_text(text)
        arguments += [option, str(tmp_path / name)]

    with pytest.raises(CommandFailed) as refused:
        command.main(arguments, standalone_mode=False)

    assert refused.value.code is ExitCode.USAGE
    power, heal, notifier = str(refused.value).splitlines()
    assert "power.json5:1: edgeswich: " in power
    assert "heal.json5: pool '*': afte: there is no such key" in heal
    assert "notifier.json5, line 1" in notifier
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("setting", FILE_CHECKS)
def test_each_service_is_asked_about_its_file(setting: str, tmp_path: Path) -> None:
    assert setting in inspect.signature(command.callback or command).parameters
    with pytest.raises(Misconfigured, match="cannot read"):
        check_file(FILE_CHECKS[setting], tmp_path / "missing")
