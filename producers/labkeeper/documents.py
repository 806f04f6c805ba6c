"""What the façade answers, as our models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.command import CommandFailed
from schemas.wire import explain

Model = TypeVar("Model", bound=BaseModel)


def read_as(model: type[Model], document: Mapping[str, Any], what: str) -> Model:
    """The document as this model; `what` names it in the error, such as `a machine`. Raises `CommandFailed`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise CommandFailed(f"the façade sent {what} that makes no sense: {explain(error)}") from error
