"""Docker Compose takes the lab on one host, and its services are shut in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumers.notifier.configuration import read_configuration
from consumers.powercycle_agent.configuration import read_inventory
from consumers.powercycle_agent.registry import Registry
from consumers.powercycle_agent.switching import Patience
from consumers.watchdog.policy_source import PolicySource
from infra.servers.errors import ServerUnavailable
from pipeline.settings import BrokerKind
from tests.deployment.places import INFRA, complaint_about
from tests.programs import compose_loader

COMPOSE = INFRA / "compose"
OURS = [
    "migrate",
    "topics",
    "writer",
    "relay",
    "watchdog",
    "fleet-stats",
    "powercycle-agent",
    "notifier",
    "swarming-poller",
    "facade",
    "prometheus-token",
    "token",
]
WITH_A_WAY_OUT = {"powercycle-agent", "notifier", "swarming-poller"}
RUN_ONCE = {"database", "migrate", "topics", "prometheus-token", "token"}
WRITES_ITS_ROOT = {"kafka"}

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The project as Docker Compose reads it."""
    try:
        loader = compose_loader()
    except ServerUnavailable as error:
        pytest.skip(f"needs Docker Compose's loader: {error}")
    done = subprocess.run(
        [loader, COMPOSE / "compose.yaml"], capture_output=True, text=True, timeout=60, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


@pytest.fixture(scope="session")
def services(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = project["services"]
    return found


def value_of(option: str, command: list[str]) -> str:
    words = [part for word in command for part in word.split("=", 1)]
    return words[words.index(option) + 1]


def test_every_service_is_shut_in(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) is (name not in WRITES_ITS_ROOT), name
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name
        assert not service.get("privileged"), name


def test_images_are_pinned_to_a_version(services: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in services.values()} - {"labkeeper:local"}

    assert all(re.fullmatch(r"[a-z./-]+:v?\d+\.\d+\.\d+", image) for image in images), images


def test_only_the_page_prometheus_and_grafana_can_be_reached_and_from_this_host_only(
    project: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}

    assert set(published) == {"facade", "prometheus", "grafana"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    assert project["networks"]["inside"]["internal"] is True
    for name, service in services.items():
        networks = service.get("networks") or {}
        assert ("outside" in networks) is (name in published), name
        assert ("way-out" in networks) is (name in WITH_A_WAY_OUT), name


def test_services_wait_for_schema_and_topics_and_come_back(services: dict[str, dict[str, Any]]) -> None:
    for name in ("writer", "relay", "watchdog", "fleet-stats", "facade", *WITH_A_WAY_OUT):
        waits_for = {other: how["condition"] for other, how in services[name]["depends_on"].items()}
        assert waits_for["migrate"] == waits_for["topics"] == "service_completed_successfully"
    for name in services.keys() - RUN_ONCE:
        assert services[name]["restart"] == "unless-stopped", name
        assert services[name]["healthcheck"]["test"][0] == "CMD", name
    for name in RUN_ONCE - {"token"}:
        assert services[name]["restart"].startswith("on-failure"), name


def test_our_command_lines_are_understood(services: dict[str, dict[str, Any]]) -> None:
    commands = {name: services[name]["command"] for name in OURS if services[name].get("command")}
    shell = commands.pop("prometheus-token")

    assert {name: complaint_about(command) for name, command in commands.items()} == dict.fromkeys(
        commands, ""
    )
    [by_shell] = re.findall(r"labkeeper ([^>]*) >", shell[0])
    assert complaint_about(by_shell.split()) == ""
    assert all(services[name]["user"] == "10001:10001" for name in OURS)


def test_our_services_agree_on_broker_and_database(services: dict[str, dict[str, Any]]) -> None:
    told = [services[name]["environment"] for name in OURS if name != "token"]

    assert all(one == told[0] for one in told)
    assert told[0]["LABKEEPER_BROKER"] == BrokerKind.KAFKA
    host, _, port = told[0]["LABKEEPER_KAFKA_SERVERS"].partition(":")
    assert services[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{host}:{port}"
    assert "@cockroachdb:26257/labkeeper" in told[0]["LABKEEPER_DATABASE_URL"]


def test_what_is_mounted_is_there(project: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes") or ()]

    for mount in mounts:
        if mount["type"] == "bind":
            assert Path(mount["source"]).exists()
            assert mount["read_only"]
        else:
            assert mount["source"] in project["volumes"]


def test_prometheus_finds_the_services(services: dict[str, dict[str, Any]]) -> None:
    jobs = yaml.safe_load((INFRA / "prometheus" / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    found = {job["job_name"]: job["dns_sd_configs"][0] for job in jobs if "dns_sd_configs" in job}

    assert set(found) == {"facade", "writer", "relay", "watchdog", "fleet-stats", *WITH_A_WAY_OUT}
    for name, target in found.items():
        assert target["names"] == [name]
        option = "--port" if name == "facade" else "--metrics-port"
        assert value_of(option, services[name]["command"]) == str(target["port"])


def test_who_mounts_the_tokens_can_read_them(services: dict[str, dict[str, Any]]) -> None:
    """A new volume takes owner and mode of the image's folder, which the recipe makes."""
    [folder] = re.findall(
        r"install --directory --owner=(\d+) --group=(\d+) --mode=0(\d{3}) /var/lib/labkeeper",
        (INFRA / "containers" / "Containerfile").read_text("utf-8"),
    )
    owner, group, folder_mode = folder[0], folder[1], int(folder[2], 8)
    [umask] = re.findall(r"umask (\d+)", services["prometheus-token"]["command"][0])
    file_mode = 0o666 & ~int(umask, 8)
    readers = {
        name: service
        for name, service in services.items()
        if any(mount["source"] == "tokens" for mount in service.get("volumes") or ())
    }

    assert set(readers) == {"facade", "prometheus", "prometheus-token", "token"}
    for name, service in readers.items():
        user, own_group = service["user"].split(":")
        groups = {own_group, *service.get("group_add", ())}
        shift = 6 if user == owner else 3 if group in groups else 0
        assert folder_mode >> shift & 0o5 == 0o5, name
        assert file_mode >> shift & 0o4 == 0o4, name
    assert not file_mode & 0o007


def test_a_process_is_asked_whether_it_hangs_where_it_tells(services: dict[str, dict[str, Any]]) -> None:
    for name in ("writer", "relay", "watchdog", "fleet-stats", *WITH_A_WAY_OUT):
        port = value_of("--metrics-port", services[name]["command"])
        assert f"http://127.0.0.1:{port}/healthz" in services[name]["healthcheck"]["test"][-1]


def test_the_password_is_made_once(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "prepare.sh", tmp_path)
    passwords = set()
    for _ in range(2):
        subprocess.run(["sh", tmp_path / "prepare.sh"], check=True, timeout=20, capture_output=True)
        passwords.add((tmp_path / "secrets" / "grafana-password").read_text("ascii"))

    [password] = passwords
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_the_files_that_come_along_are_taken_and_switch_nothing(
    services: dict[str, dict[str, Any]],
) -> None:
    def file_of(name: str, option: str) -> Path:
        return COMPOSE / "configuration" / Path(value_of(option, services[name]["command"])).name

    assert PolicySource(file_of("watchdog", "--heal-policy")).policies.is_off
    inventory = read_inventory(file_of("powercycle-agent", "--config"), registry=Registry.installed())
    assert inventory.controllers == ()
    assert read_configuration(file_of("notifier", "--config")).channels


def test_the_power_agent_keeps_its_journal_and_has_time_to_switch_ports_on(
    services: dict[str, dict[str, Any]],
) -> None:
    agent = services["powercycle-agent"]
    recipe = (INFRA / "containers" / "Containerfile").read_text("utf-8")
    [state] = re.findall(r"LABKEEPER_POWERCYCLE_STATE=(\S+)", recipe)
    [folder] = [mount["target"] for mount in agent["volumes"] if mount["type"] == "volume"]

    assert state.startswith(f"{folder}/")
    [minutes, seconds] = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", agent["stop_grace_period"]).groups("0")  # type: ignore[union-attr]
    assert 60 * int(minutes) + int(seconds) > 2 * Patience().ending
