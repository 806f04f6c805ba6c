"""Kinds of controllers found by entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, PathDistribution
from pathlib import Path
from typing import Any

import pytest

from consumers.powercycle_agent.drivers.errors import DriverError, NotInstalled
from consumers.powercycle_agent.drivers.protocol import ENTRY_POINTS, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.inventory import Controller
from consumers.powercycle_agent.registry import BrokenKind, Registry, open_driver
from tests.unit.consumers.powercycle_agent.kinds import Obedient, SwitchSettings, kinds, switch

SECRETS = Secrets({}, Path("known_hosts"))


def package(folder: Path, name: str, *lines: str) -> Distribution:
    """An installed package with these entry points."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines]))
    return PathDistribution(info)


def registry_of(*packages: Distribution) -> Registry:
    entries = [entry for one in packages for entry in one.entry_points]
    return Registry.installed(entries)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_kind_of_another_package_is_found_and_only_imported_when_it_is_asked_for(modules: Path) -> None:
    (modules / "lazy_lab.py").write_text(
        "from tests.unit.consumers.powercycle_agent.kinds import switch\nKIND = switch()"
    )
    registry = registry_of(package(modules, "lab", "zap = lazy_lab:KIND"))
    assert (registry.names, registry.origin("zap")) == (["zap"], "lab 1.5")
    assert "lazy_lab" not in sys.modules
    assert registry.kind("zap").settings is SwitchSettings
    assert registry.kind("zap") is registry.kind("zap")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("KIND = 1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        ("OTHER = 1", "cannot be loaded: AttributeError"),
        ("KIND = 'x'", "is no DriverKind but a str"),
    ],
)
def test_a_broken_kind_names_its_package(modules: Path, source: str, reason: str) -> None:
    (modules / "broken_lab.py").write_text(source)
    registry = registry_of(package(modules, "lab", "zap = broken_lab:KIND"))
    with pytest.raises(BrokenKind, match=rf"'zap' of lab 1\.5 \(broken_lab:KIND\) {reason}.*that package"):
        registry.kind("zap")


def test_two_packages_with_one_name_are_both_named(modules: Path) -> None:
    registry = registry_of(package(modules, "lab", "zap = a:KIND"), package(modules, "bal", "zap = b:KIND"))
    assert registry.origin("zap") == "lab 1.5 and bal 1.5"
    with pytest.raises(
        BrokenKind, match=r"^lab 1.5 and bal 1.5 each bring a driver named 'zap': uninstall one"
    ):
        registry.kind("zap")


def test_a_package_that_is_seen_twice_is_one(modules: Path) -> None:
    lab = package(modules, "lab", "zap = a:KIND")
    assert registry_of(lab, lab).origin("zap") == "lab 1.5"
    assert (
        Registry.installed([EntryPoint("zap", "a:KIND", ENTRY_POINTS)]).origin("zap") == "an unknown package"
    )


def test_a_driver_is_opened_with_its_settings() -> None:
    seen = []

    def opener(settings: Any, secrets: Secrets) -> PowerDriver:
        seen.append((settings, secrets))
        return Obedient()

    settings = SwitchSettings(address="10.0.0.1", user="ubnt", ports={"m": "1"})
    driver = open_driver(Controller("edgeswitch", "sw1", {"m": "1"}, switch(opener), settings), SECRETS)
    assert isinstance(driver, Obedient)
    assert seen == [(settings, SECRETS)]


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (NotInstalled("pip install it"), NotInstalled, "^pip install it$"),
        (KeyError("x"), DriverError, "the driver 'edgeswitch' of edgeswitch/sw1 does not start: KeyError"),
    ],
)
def test_a_driver_that_does_not_start_is_a_drivers_error(
    raised: Exception, expected: type[DriverError], text: str
) -> None:
    def opener(_settings: Any, _secrets: Secrets) -> PowerDriver:
        raise raised

    settings = SwitchSettings(address="10.0.0.1", user="ubnt", ports={})
    with pytest.raises(expected, match=text):
        open_driver(Controller("edgeswitch", "sw1", {}, switch(opener), settings), SECRETS)


def test_a_controller_with_a_problem_is_not_opened() -> None:
    with pytest.raises(DriverError, match=r"^file: no user$"):
        open_driver(Controller("edgeswitch", "sw1", {}, problem="file: no user"), SECRETS)


def test_a_registry_given_by_hand_has_no_packages() -> None:
    assert (kinds().names, kinds().origin("mpower")) == (["edgeswitch", "mpower"], "")
