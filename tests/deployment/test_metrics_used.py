"""Alerts and dashboards use only metrics that exist, with labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deployment.known_series import known_series
from tests.deployment.places import INFRA, ROOT
from tests.deployment.promql import examine

RULES = INFRA / "prometheus" / "labkeeper.rules.yaml"
DASHBOARDS = sorted((INFRA / "grafana" / "dashboards").glob("*.json"))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[Any]:
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text("utf-8"))["panels"]:
            for number, target in enumerate(panel.get("targets", ())):
                text = target["expr"].replace("$__rate_interval", "5m")
                yield pytest.param(text, target["legendFormat"], id=f"{panel['title']}-{number}")


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_there_is(alert: dict[str, Any]) -> None:
    question = examine(alert["expr"], known_series())

    assert question.problems == []
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    assert told <= question.result


@pytest.mark.parametrize(("text", "legend"), list(queries()))
def test_a_panel_asks_for_what_there_is(text: str, legend: str) -> None:
    question = examine(text, known_series())

    assert question.problems == []
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= question.result


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_is_and_where_to_read_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert anchor == alert["alert"].lower()
    assert alert["alert"] in headings


def test_every_runbook_has_its_alert() -> None:
    headings = re.findall(
        r"^### (Labkeeper\w+)$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE
    )

    assert sorted(headings) == sorted(alert["alert"] for alert in alerts())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sum(labkeeper_no_such_thing)", "there is no series 'labkeeper_no_such_thing'"),
        ('labkeeper_consumer_lag{team="a"}', "labkeeper_consumer_lag has no label 'team'"),
        ("sum by (team) (labkeeper_consumer_lag)", "nothing inside has the label 'team'"),
        (
            "sum by (id) (max by (machine) (machine_processor_device_battery_level))",
            "nothing inside has the label 'id'",
        ),
        ("rate(labkeeper_dead_letters[5m])", "there is no series 'labkeeper_dead_letters'"),
    ],
)
def test_what_does_not_exist_is_noticed(text: str, problem: str) -> None:
    assert examine(text, known_series()).problems == [problem]


def test_panels_have_places_and_numbers_of_their_own() -> None:
    for file in DASHBOARDS:
        panels = json.loads(file.read_text("utf-8"))["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        cells = [
            (x, y)
            for panel in panels
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells))
        assert all(x < 24 for x, _ in cells)
