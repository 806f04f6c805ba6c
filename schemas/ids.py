"""Identifiers: the machine id, which is also every topic's key, and ULIDs for commands, history and messages."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from ulid import ULID

MACHINE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
MACHINE_ID_RULE = "1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"

_machine_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_digits = re.compile("[0-9]+")
_caller_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


def is_machine_id(text: str) -> bool:
    """Whether `text` may name a machine."""
    return _machine_id.fullmatch(text) is not None


def check_machine_id(text: str) -> str:
    """Return `text`, or raise ValueError with the rule if it cannot name a machine."""
    if _machine_id.fullmatch(text) is None:
        raise ValueError(f"a machine id has {MACHINE_ID_RULE}")
    return text


def counting_order(text: str) -> tuple[str, str]:
    """Key to sort ids by as people count: `rack-9` before `rack-10`, in any case. As the page sorts."""
    return _digits.sub(lambda number: number[0].zfill(12), text.lower()), text


MachineId = Annotated[str, AfterValidator(check_machine_id)]


def is_caller_name(text: str) -> bool:
    """Whether `text` may name a token's bearer, such as an agent or a person: like a machine's id, with `@` and `+`."""
    return _caller_name.fullmatch(text) is not None


def new_ulid() -> str:
    """A fresh ULID: 26 characters that sort by time of creation (millisecond) and are otherwise random."""
    return str(ULID())
