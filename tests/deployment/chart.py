"""The chart, rendered by Helm itself, and what is in the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import yaml

from tests.deployment.places import INFRA

helm = pytest.importorskip("helm_python", reason="needs Helm as a library: pip install helm-python-sdk")

CHART: Final = INFRA / "helm" / "labkeeper"

Document = dict[str, Any]


def values_of(variant: str) -> Document:
    values: Document = yaml.safe_load((CHART / "ci" / f"{variant}-values.yaml").read_text("utf-8"))
    return values


def render(values: Mapping[str, Any], *, upgrade: bool = False) -> list[Document]:
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(
            dict(values), name="lab", namespace="lab", is_install=not upgrade, is_upgrade=upgrade
        )
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pods(documents: list[Document]) -> Iterator[Document]:
    """Specifications of every pod that could come to be, with what is claimed for it."""
    for document in documents:
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            claims = [{"name": claim["metadata"]["name"]} for claim in spec.get("volumeClaimTemplates", ())]
            yield {**template["spec"], "volumes": [*template["spec"]["volumes"], *claims]}


def workloads(documents: list[Document]) -> dict[str, Document]:
    """What keeps pods running, by name."""
    return of_kind(documents, "Deployment") | of_kind(documents, "StatefulSet")


def arguments_of(job: Document) -> list[str]:
    [container] = job["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def ports_of(policy: Document) -> set[int]:
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
