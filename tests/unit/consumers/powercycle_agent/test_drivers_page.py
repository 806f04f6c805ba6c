"""What docs/drivers.md says is so: its entries are read, its table is complete, and its example works as it stands."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from hatchling.build import build_wheel

from consumers.powercycle_agent.configuration import read_configuration
from consumers.powercycle_agent.drivers.protocol import ENTRY_POINTS, PortState
from consumers.powercycle_agent.inventory import Inventory
from consumers.powercycle_agent.registry import Registry
from tests.contract.power_devices.harness import Harness

ROOT: Final = Path(__file__).parents[4]
PAGE: Final = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")
OURS: Final = sorted(
    entry.name for entry in entry_points(group=ENTRY_POINTS) if entry.value.startswith("consumers.")
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rows() -> dict[str, list[str]]:
    """The table's cells, by kind."""
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    return {kind: [cell.strip() for cell in cells.split(" | ")] for kind, cells in lines}


def read(folder: Path, text: str, registry: Registry) -> Inventory:
    path = folder / "powercycle.json5"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    reading = read_configuration(path, registry)
    assert reading.problems == []
    assert reading.warnings == ()
    return reading.inventory


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's package, built and on the path."""
    (tmp_path / "pyproject.toml").write_text(blocks("toml")[0])
    (tmp_path / "labkeeper_acme.py").write_text(blocks("python")[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    wheel = build_wheel(str(tmp_path / "dist"))
    monkeypatch.syspath_prepend(str(tmp_path / "dist" / wheel))
    yield
    sys.modules.pop("labkeeper_acme", None)
    importlib.invalidate_caches()


def test_the_table_names_every_kind_that_comes_with_labkeeper() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        announced = tomllib.load(file)["project"]["entry-points"][ENTRY_POINTS]
    assert sorted(rows()) == sorted(announced) == OURS


def test_every_entry_of_the_page_is_accepted_and_every_kind_has_one(tmp_path: Path) -> None:
    (text,) = blocks("json5")
    inventory = read(tmp_path, text, Registry.installed())
    assert sorted(controller.kind for controller in inventory.controllers) == OURS


@pytest.mark.parametrize("kind", OURS)
def test_the_entry_at_the_top_of_a_driver_is_accepted(tmp_path: Path, kind: str) -> None:
    module = importlib.import_module(f"consumers.powercycle_agent.drivers.{kind}")
    found = re.search(rf"^    {kind}: \{{\n.*?^    \}}$", module.__doc__ or "", re.DOTALL | re.MULTILINE)
    assert found is not None
    read(tmp_path, f"{{{found.group()}}}", Registry.installed())


@pytest.mark.parametrize("kind", OURS)
def test_the_table_says_whether_a_kind_reads_back_and_what_it_needs(kind: str) -> None:
    *_, reads_back, needs = rows()[kind]
    assert reads_back.startswith("yes") is Registry.installed().kind(kind).reads_back
    extra = re.fullmatch(r"extra `(\w+)`", needs)
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert extra is None or extra[1] in extras


def test_a_driver_of_somebody_elses_package_is_found_and_its_entries_are_read(
    acme: None, tmp_path: Path
) -> None:
    registry = Registry.installed()
    assert (registry.names, registry.origin("acme")) == (sorted([*OURS, "acme"]), "labkeeper-acme 1.0")
    entry = '{acme: {"box": {address: "http://10.0.0.1", ports: {"pi-01": 1}}}}'
    (controller,) = read(tmp_path, entry, registry).controllers
    assert (controller.name, controller.driver) == ("acme/box", registry.kind("acme"))


async def test_the_example_drives_its_fake_device(acme: None, tmp_path: Path) -> None:
    module = ModuleType("acme_harness")
    exec(compile(blocks("python")[1], "docs/drivers.md", "exec"), module.__dict__)  # our page
    (harness,) = module.HARNESSES
    assert isinstance(harness, Harness)
    async with harness.start(tmp_path) as case:
        driver = case.open()
        await driver.off("1")
        assert case.device.states == {"1": PortState.OFF, "2": PortState.ON}
        assert await driver.status("1") is PortState.OFF
        await driver.on("1")
        await driver.close()
    assert case.device.states["1"] is PortState.ON
