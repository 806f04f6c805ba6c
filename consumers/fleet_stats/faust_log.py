"""What Faust and its service framework have to say goes into our log."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final

from pipeline import logs

_LIBRARIES: Final = ("faust", "mode")


class _FaustLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`. At most warnings: what Faust calls an error, it usually gets over by itself."""
        text = " ".join(record.getMessage().split())[:1000]
        details = {} if record.exc_info is None else {"error": repr(record.exc_info[1])}
        logs.get_logger().warning("faust", text=text, part=record.name, **details)


def route_faust_log() -> None:
    """From now on, in this process. Harmless when repeated."""
    threading.excepthook = _thread_died
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        if not any(isinstance(handler, _FaustLog) for handler in library.handlers):
            library.addHandler(_FaustLog(logging.WARNING))
            library.propagate = False


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    """Faust's thread ends with its own cancellation when Kafka is away; only what is more than that has a traceback."""
    name = None if arguments.thread is None else arguments.thread.name
    if issubclass(arguments.exc_type, asyncio.CancelledError):
        logs.get_logger().warning("faust", text="a thread was cancelled", part=name)
    else:
        threading.__excepthook__(arguments)
