"""What `labkeeper up` starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.labkeeper.roles import STOP_ORDER, LabSettings, Role, helpers, pillars

SECRET = "postgresql://user:secret@/labkeeper"
STATE = Path("/state")
DEMO_POWER = Path("/data/power/demo.json5")

EVERYTHING = LabSettings(
    Path("data"),
    demo=5,
    power_config=Path("/etc/powercycle.json5"),
    heal_policy=Path("/etc/heal.json5"),
    notifier_config=Path("/etc/notifier.json5"),
)


def started(settings: LabSettings) -> tuple[Role, ...]:
    return helpers(settings, SECRET, monitor_state=STATE, demo_power=DEMO_POWER)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("lab.example.com", "http://lab.example.com:8000"),
    ],
)
def test_the_address_shown_leads_to_the_page(host: str, url: str) -> None:
    assert LabSettings(Path("data"), host=host).url == url


def test_a_lab_has_a_monitor_and_no_simulated_machines_unless_asked_for() -> None:
    names = [role.name for role in started(LabSettings(Path("data")))]
    assert names == ["monitor", "relay", "watchdog", "fleet-stats"]

    names = [role.name for role in started(LabSettings(Path("data"), demo=5, monitor=False))]
    assert names == ["relay", "watchdog", "fleet-stats", "simulator", "demo-agent"]


def test_the_databases_address_is_not_for_everybody_to_read() -> None:
    settings = LabSettings(Path("data"), demo=5)
    for role in (*pillars(settings, SECRET), *started(settings)):
        assert "secret" not in " ".join(role.arguments)
        assert role.environment["LABKEEPER_DATABASE_URL"] == SECRET
        assert "secret" not in repr(role)


def test_every_role_has_its_place_in_the_order_of_ending() -> None:
    settings = EVERYTHING
    names = {role.name for role in (*pillars(settings, SECRET), *started(settings))}

    assert names == {name for group in STOP_ORDER for name in group}


def test_pools_and_periods_reach_those_who_need_them() -> None:
    settings = LabSettings(
        Path("data"), demo=5, pools=("Phones=^phone-", "Lab="), period_s=2.5, pool_periods=("Phones=60",)
    )
    said = {role.name: role.arguments for role in (*pillars(settings, SECRET), *started(settings))}

    def told(option: str) -> set[str]:
        return {name for name, words in said.items() if option in words}

    assert told("--pool=Phones=^phone-") == {"facade", "writer", "relay", "watchdog"}
    assert told("--pool-period=Phones=60") == {"watchdog"}
    assert told("--period") == told("2.5") == {"monitor", "simulator", "watchdog"}
    assert said["writer"].index("--pool=Phones=^phone-") < said["writer"].index("--pool=Lab=")


def test_everybody_shows_metrics() -> None:
    settings = LabSettings(Path("data"), demo=5)

    assert all(role.has_metrics for role in (*pillars(settings, SECRET), *started(settings)))


def test_files_reach_those_who_want_them() -> None:
    said = {role.name: " ".join(role.arguments) for role in started(EVERYTHING)}
    assert "--config /etc/powercycle.json5" in said["power-agent"]
    assert "--heal-policy /etc/heal.json5" in said["watchdog"]
    assert "--config /etc/notifier.json5" in said["notifier"]
    assert f"--power-config {DEMO_POWER}" in said["simulator"]
    assert f"--config {DEMO_POWER} --state-dir /data/power/demo" in said["demo-agent"]
