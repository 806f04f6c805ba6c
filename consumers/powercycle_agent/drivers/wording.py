"""How a device words the state of a port, where every device has words of its own: for webhooks and MQTT."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from consumers.powercycle_agent.drivers.protocol import PortState

_MAX_SEARCHED: Final = 1 << 16
"""Characters that a pattern is looked for in."""

Word = Annotated[str, Field(min_length=1, max_length=200)]


class Wording(BaseModel):
    """What stands for "on" and for "off" in a text. Upper and lower case are the same."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pointer: Annotated[str, Field(pattern="^(/.*)?$", max_length=500)] | None = None
    """JSON pointer to the state in a JSON text, such as `/state`; by default the whole text is the state."""
    pattern: Annotated[str, Field(max_length=500)] | None = None
    """Regular expression that finds the state: its first group, or all of it."""
    on: Annotated[list[Word], Field(min_length=1)] = ["on", "true", "1"]
    off: Annotated[list[Word], Field(min_length=1)] = ["off", "false", "0"]

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _is_clear(self) -> Wording:
        if self.pointer is not None and self.pattern is not None:
            raise ValueError("has both a pointer and a pattern: drop one of them")
        both = {word.casefold() for word in self.on} & {word.casefold() for word in self.off}
        if both:
            raise ValueError(f"has the same word for on and off: {', '.join(sorted(both))}")
        return self

    def read(self, text: str) -> PortState:
        """What a text says; `UNKNOWN` if it does not say anything that we understand."""
        word = self._word(text)
        if word is None:
            return PortState.UNKNOWN
        said = word.strip().casefold()
        if said in {each.casefold() for each in self.on}:
            return PortState.ON
        return PortState.OFF if said in {each.casefold() for each in self.off} else PortState.UNKNOWN

    def _word(self, text: str) -> str | None:
        if self.pointer is not None:
            return _pointed(text, self.pointer)
        if self.pattern is None:
            return text
        match = re.search(self.pattern, text[:_MAX_SEARCHED])
        return match and (match.group(1) if match.re.groups else match.group())


def _pointed(text: str, pointer: str) -> str | None:
    """What a JSON pointer (RFC 6901) leads to, if that is a text, a number or a truth value."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None
