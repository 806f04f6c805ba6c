"""Who fires when, by Prometheus's own test runner; `alerts.test.yaml` has the cases."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deployment.places import INFRA

CASES = Path(__file__).with_name("alerts.test.yaml")
RULES = INFRA / "prometheus" / "labkeeper.rules.yaml"


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool: on Debian it is in the package prometheus")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))


def test_prometheus_takes_the_configuration(promtool: str) -> None:
    run(promtool, "check", "config", "--syntax-only", str(INFRA / "prometheus" / "prometheus.yaml"))


def test_alerts_fire_when_they_should_and_only_then(promtool: str) -> None:
    run(promtool, "test", "rules", str(CASES))


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    tests = yaml.safe_load(CASES.read_text("utf-8"))["tests"]
    firing = str([test["promql_expr_test"] for test in tests if "promql_expr_test" in test])

    missing = [
        rule["alert"]
        for group in rules["groups"]
        for rule in group["rules"]
        if f'alertname="{rule["alert"]}",alertstate="firing",severity="{rule["labels"]["severity"]}"'
        not in firing
    ]

    assert missing == []
