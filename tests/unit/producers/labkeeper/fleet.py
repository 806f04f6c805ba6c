"""Machines as the façade tells of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from schemas.description import Description

T0 = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def machine(name: str, *, version: int = 1, **fields: Any) -> dict[str, Any]:
    """The façade's JSON of a machine; `fields` are of `Description`."""
    dimensions = {"id": [name], **fields.pop("dimensions", {})}
    description = Description.new(name, now=T0).model_copy(
        update={"row_version": version, "dimensions": dimensions, **fields}
    )
    return description.model_dump(mode="json")
