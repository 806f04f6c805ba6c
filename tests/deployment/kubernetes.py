"""Kubernetes' own schemas, offline: what an API server would refuse for its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

OLDEST: Final = "1.27"
"""What the chart promises."""
NEWEST: Final = kubernetes_validate.latest_version().rpartition(".")[0]
_SCHEMAS: Final = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema")


def problems_of(document: Mapping[str, Any], version: str) -> list[str]:
    """What is wrong with a document of one of Kubernetes' own kinds; unknown fields are."""
    return [
        f"{error.json_path}: {error.message}"
        for error in _validator(_name(document), version).iter_errors(document)
    ]


def is_built_in(document: Mapping[str, Any], version: str) -> bool:
    """Whether Kubernetes has this kind without extensions."""
    return (_folder(version) / _name(document)).is_file()


def _name(document: Mapping[str, Any]) -> str:
    group, _, version = str(document["apiVersion"]).rpartition("/")
    short = f"{group.partition('.')[0]}-{version}" if group else version
    return f"{str(document['kind']).lower()}-{short}.json"


def _folder(version: str) -> Path:
    return _SCHEMAS / f"v{version}.0-local-strict"


@cache
def _validator(name: str, version: str) -> jsonschema.Draft202012Validator:
    definitions = _definitions(version)
    schema = json.loads((_folder(version) / name).read_text("utf-8"))
    registry = Resource.from_contents(schema) @ (definitions @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Resource[Any]:
    return Resource.from_contents(json.loads((_folder(version) / "_definitions.json").read_text("utf-8")))
