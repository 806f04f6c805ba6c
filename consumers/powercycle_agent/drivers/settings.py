"""What every entry of `powercycle.json5` may say."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Port = Annotated[str, BeforeValidator(_as_text), Field(min_length=1, max_length=200)]
"""Written as a number or a text; drivers get a text."""


class SoftReboot(BaseModel):
    """How a machine is asked to reboot before its port is touched: SSH to the machine itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    user: str | None = None
    """User on the machine; by default as the agent's own SSH configuration says."""
    key_file: str | None = None
    """Private key; by default those that the agent's user has."""
    known_hosts: str | None = None
    """File of host keys; by default the agent's user's."""
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    wait_s: Annotated[float, Field(gt=0, le=1800)] = 180
    """How long the machine may take to go away and come back before its port is cycled after all."""


class ControllerSettings(BaseModel):
    """One controller. Kinds add keys of their own."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    demanded: ClassVar[frozenset[str]] = frozenset()
    """Keys that have a default and must be given all the same: a check of the whole entry asks for them."""

    ports: dict[str, Port]
    """Machine id → port."""
    delay: Annotated[float, Field(gt=0, le=600)] | None = None
    """Seconds between off and on; by default as the kind has it."""
    soft_reboot: bool | SoftReboot | None = None
    """`true`, or how: ask the machine to reboot first. By default as the kind has it."""
