"""Reading `dumpsys thermalservice`."""

from __future__ import annotations

import pytest

from pipeline.processor.temperature import hottest, temperatures
from tests.unit.pipeline.processor.samples import battery_dump, sensor, thermal_dump

HEADING = "Current temperatures from HAL:\n"


def test_only_current_temperatures_count() -> None:
    assert temperatures(thermal_dump("28.000002", "33.5"), "") == {"sensor0": 28.000002, "sensor1": 33.5}


def test_the_battery_adds_a_sensor() -> None:
    battery = battery_dump(50, temperature=281)
    assert temperatures("", battery) == {"dumpsys_battery": 28.1}
    assert temperatures(thermal_dump("30.0"), battery) == {"sensor0": 30.0, "dumpsys_battery": 28.1}
    assert temperatures(HEADING + sensor("1.0", "dumpsys_battery"), battery) == {"dumpsys_battery": 28.1}


@pytest.mark.parametrize(
    "dump",
    [
        "",
        "Current temperatures from HAL:",
        HEADING,
        HEADING + "nothing\n" + sensor(30.0),
        HEADING + "\n" + sensor(30.0),
        HEADING + sensor(30.0).lstrip("\t"),
        HEADING + " " + sensor(30.0),
        "  " + HEADING + sensor(30.0),
        "Cached temperatures:\n" + sensor(30.0),
        sensor(30.0) + "\n" + HEADING,
        HEADING.replace(":\n", sensor(30.0)),
    ],
)
def test_no_temperatures(dump: str) -> None:
    assert temperatures(dump, "") is None


@pytest.mark.parametrize(
    "line",
    [
        sensor("-99.9"),
        sensor("."),
        sensor("1.2.3"),
        sensor(""),
        sensor("NaN"),
        sensor("1e3"),
        sensor("9" * 400),
        sensor("30.0", kind=-1),
        sensor("30.0", ""),
        sensor("30.0").replace(", mStatus=0", ""),
        sensor("30.0").replace("mStatus=0", "mStatus=x"),
        sensor("30.0").replace(", ", ","),
        sensor("30.0").replace("\tT", "\t T"),
    ],
)
def test_a_line_that_tells_no_temperature_is_skipped(line: str) -> None:
    assert temperatures(HEADING + line + "\n" + sensor("20.0", "next"), "") == {"next": 20.0}


@pytest.mark.parametrize(
    ("value", "degrees"),
    [
        ("28.000002", 28.000002),
        ("31", 31.0),
        ("31.", 31.0),
        (".5", 0.5),
        ("1000", 1000.0),
        ("1000.1", 1.0001),
        ("45000", 45.0),
    ],
)
def test_values_above_1000_are_thousandths(value: str, degrees: float) -> None:
    assert temperatures(HEADING + sensor(value), "") == {"cpu0": degrees}


@pytest.mark.parametrize(
    "line",
    [
        "\t\t" + sensor(30.0),
        "\tsomething " + sensor(30.0),
        sensor(30.0) + " and more",
        sensor(30.0) + "\r",
        sensor(30.0) + sensor(99.0, "second"),
        sensor(30.0).replace(", ", ", \t "),
    ],
)
def test_odd_spellings_are_read(line: str) -> None:
    assert temperatures(HEADING + line, "") == {"cpu0": 30.0}


def test_a_name_may_hold_anything_but_a_comma() -> None:
    assert temperatures(HEADING + sensor(30.0, "a b}=é"), "") == {"a b}=é": 30.0}


def test_the_last_value_of_a_name_wins() -> None:
    assert temperatures(HEADING + sensor(30.0) + "\n" + sensor(20.0), "") == {"cpu0": 20.0}


def test_the_first_heading_counts_and_may_be_the_first_line() -> None:
    dump = HEADING + sensor(1.0, "first") + "\nend\n" + HEADING + sensor(2.0, "second")
    assert temperatures(dump, "") == {"first": 1.0}
    assert temperatures("x\n" + dump, "") == {"first": 1.0}
    assert temperatures("Current temperatures from HAL, roughly\n" + sensor(3.0), "") == {"cpu0": 3.0}


@pytest.mark.parametrize(
    ("by_sensor", "highest"),
    [
        ({}, -99.0),
        ({"cpu": 30.0, "gpu": 35.5}, 35.5),
        ({"cpu": 30.0, "battery_cycle": 300.0}, 30.0),
        ({"battery_cycle": 300.0}, -99.0),
    ],
)
def test_the_hottest_sensor_is_not_the_count_of_battery_cycles(
    by_sensor: dict[str, float], highest: float
) -> None:
    assert hottest(by_sensor) == highest


@pytest.mark.parametrize(
    "piece", ["\t", "\t\n", "\tTemperature{mValue=1, mType=1, mName=", "1", ", ", "\tTemperature{mValue=1 "]
)
def test_a_megabyte_of_anything_is_read_in_linear_time(piece: str) -> None:
    text = HEADING + "\tTemperature{mValue=" + piece * (1_000_000 // len(piece))
    assert temperatures(text.rstrip("\n") + "\n" + sensor(1.0, "last"), "") == {"last": 1.0}
