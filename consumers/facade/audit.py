"""The audit: one line in the log for everything that somebody does, with its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from consumers.facade.tokens import Caller
from pipeline import logs
from pipeline.errors import LabkeeperError

LONGEST_LOGGED: Final = 200
"""Characters of a caller's text that a line of the log repeats."""

log = logs.get_logger()


@contextmanager
def audited(action: str, caller: Caller, **details: Any) -> Iterator[None]:
    """Write the line once the outcome is known."""
    line = log.bind(action=action, user=caller.user, role=caller.role.value, **details)
    try:
        yield
    except LabkeeperError as error:
        line.info("audit", outcome="failed", reason=str(error))
        raise
    except asyncio.CancelledError:
        line.info("audit", outcome="unknown", reason="the request was broken off")
        raise
    line.info("audit", outcome="done")
