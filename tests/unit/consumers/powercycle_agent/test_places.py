"""Where agent and command keep what they share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consumers.powercycle_agent.places import (
    KNOWN_HOSTS_VARIABLE,
    STATE_VARIABLE,
    known_hosts,
    secrets_of,
    state_directory,
)
from pipeline.errors import Misconfigured


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of a user who is not root."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def test_a_variable_names_the_directory(home: Path) -> None:
    assert state_directory({STATE_VARIABLE: "/srv/power"}) == Path("/srv/power")
    assert known_hosts({STATE_VARIABLE: "/srv/power"}) == Path("/srv/power/known_hosts")
    assert known_hosts({KNOWN_HOSTS_VARIABLE: "/srv/keys"}) == Path("/srv/keys")
    assert secrets_of({KNOWN_HOSTS_VARIABLE: "/srv/keys"}).known_hosts == Path("/srv/keys")


def test_root_uses_the_hosts_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_directory({}, system=home / "lib") == home / "lib"


def test_others_use_the_hosts_directory_where_they_may(home: Path) -> None:
    (home / "lib").mkdir()
    assert state_directory({}, system=home / "lib") == home / "lib"


def test_others_have_their_own_where_the_host_has_none(home: Path) -> None:
    assert home in state_directory({}, system=home / "lib").parents
    assert known_hosts({}, system=home / "lib").name == "known_hosts"


def test_nobody_works_beside_an_agent_whose_locks_they_cannot_take(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "lib").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        Misconfigured, match=r"lib belongs to this host's power agent.*LABKEEPER_POWERCYCLE_STATE"
    ):
        state_directory({}, system=home / "lib")
    assert known_hosts({}, system=home / "lib") == home / "lib" / "known_hosts"
