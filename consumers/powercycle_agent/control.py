"""How an agent hears of commands and tells what became of them: over the broker, or over the façade's HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from schemas.power import PowerCommand, PowerRecord, PowerResult


class ControlPlane(Protocol):
    """The lab, seen from a rack. All methods raise `Retryable`s while it is out of reach; nothing else is retried."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[PowerCommand]]:
        """Commands for any machine, from now on, for ever; also cancelled ones.

        Whoever enters, and then asks for `pending`, misses none. Connections that break are mended inside; whatever may have
        been missed then is made up for by asking for `pending` again every so often.
        """
        ...

    async def pending(self) -> Sequence[PowerRecord]:
        """All commands that have not ended."""
        ...

    async def ended_lately(self) -> Sequence[PowerRecord]:
        """Commands that have ended, newest first; the latest thousand or so."""
        ...

    async def report(self, results: Sequence[PowerResult]) -> None:
        """Return once the results are safe."""
        ...

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """Take or renew the lease `powercycle-agent:<name>`; False while another owner's runs."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Give it up, if it is ours."""
        ...
