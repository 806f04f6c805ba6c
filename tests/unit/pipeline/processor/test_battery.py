"""Reading `dumpsys battery`."""

from __future__ import annotations

import pytest

from pipeline.processor.battery import battery_percent, battery_temperature
from tests.unit.pipeline.processor.samples import battery_dump


def test_the_level_is_a_percentage_of_the_scale() -> None:
    assert battery_percent(battery_dump(94)) == 94
    assert battery_percent("level: 1\nscale: 3\n") == 33
    assert battery_percent("scale: 200 level: 94") == 47
    assert battery_percent("level: 300\nscale: 100") == 300
    assert battery_percent("level: 0\nscale: 100") == 0


@pytest.mark.parametrize(
    "dump",
    [
        "",
        "scale: 100",
        "level: 94",
        "level:94\nscale: 100",
        "level: 94\nscale:100",
        "level: 94\nscale: 0",
        "level: -94\nscale: 100",
        "level: 94\nscale: -100",
        "level: 94x\nscale: 100",
        "level: 94_\nscale: 100",
        "level: x\nscale: 100",
        "level: 9223372036854775808\nscale: 100",
        "level: 94\nscale: 9223372036854775808",
        "level: " + "9" * 5000 + "\nscale: 100",
        "level: 9223372036854775807\nscale: 1",
    ],
)
def test_a_battery_that_cannot_be_read(dump: str) -> None:
    assert battery_percent(dump) is None


@pytest.mark.parametrize(
    "dump",
    [
        "level: 94\r\nscale: 100\r\n",
        "level:\n\t94\nscale: 100",
        "level: 94. scale: 100%",
        "batterylevel: 94 autoscale: 100",
        "level: 00000000000000000000000000094 scale: 0100",
    ],
)
def test_odd_spellings_are_read(dump: str) -> None:
    assert battery_percent(dump) == 94


def test_the_first_number_counts() -> None:
    assert battery_percent("level: 1 level: 2 scale: 100 scale: 50") == 1


def test_a_level_that_is_no_number_gives_way_to_one_that_is() -> None:
    assert battery_percent("level: 9x level: 2 scale: 100") == 2


def test_numbers_up_to_64_bits_are_read() -> None:
    assert battery_percent("level: 9223372036854775807\nscale: 9223372036854775807") == 100


def test_the_temperature_is_in_tenths_of_a_degree() -> None:
    assert battery_temperature(battery_dump(94, temperature=281)) == 28.1
    assert battery_temperature("temperature: 0") == 0.0


@pytest.mark.parametrize(
    "dump", ["", "temperature: -10", "temperature:10", "temperature: 1e5", "temperature: " + "9" * 20]
)
def test_a_temperature_that_cannot_be_read(dump: str) -> None:
    assert battery_temperature(dump) is None


def test_a_megabyte_of_zeros_is_read_in_no_time() -> None:
    zeros = "level: " + "0" * 1_000_000 + "x"
    assert battery_percent(zeros) is None
