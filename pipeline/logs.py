"""Logging: structlog, one line per unit of work, on standard error. JSON for machines, aligned text for people."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog

from pipeline.settings import LogFormat

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(service: str, *, log_format: LogFormat = LogFormat.AUTO, level: str = "info") -> None:
    """Set up logging for this process; every line names the service."""
    as_json = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not sys.stderr.isatty())
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(pad_event_to=28, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(_lossy(sys.stderr)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )


class _Lossy:
    """A file to print to. A full disk, or a reader that has gone, costs lines and not the work that they tell of."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Take the text, whatever becomes of it."""
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Try to."""
        with suppress(OSError):
            self._file.flush()


def _lossy(file: TextIO) -> Any:
    return _Lossy(file)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """A logger; first argument of its methods is a short fixed event name, the rest are fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
