"""A silence: somebody's wish not to be told about some machines for a while. One row of `silences`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import ConfigDict, Field

from schemas.ids import new_ulid
from schemas.wire import Time, WireModel


class Silence(WireModel):
    """Nothing is sent about machines that match while it lasts. Both patterns must match; `*` stands for anything."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str = Field(default_factory=new_ulid)
    """ULID."""
    owner: str
    """Who wished it."""
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    machine: Annotated[str, Field(min_length=1, max_length=200)] = "*"
    """Pattern of machine ids, such as `rack4-*`."""
    pool: Annotated[str, Field(min_length=1, max_length=200)] = "*"
    """Pattern of pools."""
    starts_at: Time
    ends_at: Time

    def covers(self, machine_id: str, pools: Sequence[str], *, now: datetime) -> bool:
        """Whether nothing is to be told of this machine now. One without a pool is covered by `*` alone."""
        if not self.starts_at <= now < self.ends_at or not fnmatchcase(machine_id, self.machine):
            return False
        return any(fnmatchcase(pool, self.pool) for pool in pools or ("",))
