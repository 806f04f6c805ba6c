"""The process ends when it should, whatever Faust does.

Faust's consumer is a thread of its own, which an interpreter that ends waits for; to stop it, Faust blocks the event loop until
that thread has ended; and some of its tasks swallow their cancellation. While Kafka is away none of that has a bound, and the
process would stay a member of its group, which then gives its partitions to nobody who could replace it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Final

from pipeline import logs
from pipeline.command import ExitCode, exit_code_of
from pipeline.errors import LabkeeperError

END_S: Final = 10.0
"""From the wish to end to the end. Nothing is lost by force: what is not acknowledged is read again."""

log = logs.get_logger()


class LastResort:
    """Leaves the process when it has not ended by itself in time.

    A thread, for the event loop may be the one that is blocked; a daemon, so that it keeps no process that ends in order.
    """

    def __init__(self, after_s: float = END_S, leave: Callable[[int], object] = os._exit) -> None:
        self._after_s = after_s
        self._leave_with = leave
        self._code = int(ExitCode.OK)
        self._timer: threading.Timer | None = None

    def arm(self, code: int = ExitCode.OK, reason: str = "") -> None:
        """The time runs from the first call; the code and reason of the last one count."""
        self._code, self._reason = int(code), reason
        if self._timer is None:
            self._timer = threading.Timer(self._after_s, self._leave)
            self._timer.daemon = True
            self._timer.start()

    def _leave(self) -> None:
        log.error(
            "left_by_force",
            reason=self._reason or "Faust has not stopped in time",
            note="what was in hand is read again",
            exit_code=self._code,
        )
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed by whoever read it
                stream.flush()
        # sys.exit would wait for Faust's thread, which is what does not end
        self._leave_with(self._code)

    @contextlib.asynccontextmanager
    async def around(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Bounds the end of what is done inside: from `stop`, or from its own end, be it an error."""
        watching = asyncio.create_task(self._arm_on(stop))
        try:
            yield
        except LabkeeperError as error:
            self.arm(exit_code_of(error), str(error))
            raise
        except BaseException as error:
            self.arm(ExitCode.FAILED, repr(error))
            raise
        else:
            self.arm()
        finally:
            watching.cancel()

    async def _arm_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.arm()
