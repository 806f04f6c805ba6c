"""Logging: structlog, one line per unit of work, on standard error. JSON for machines, aligned text for people."""

from __future__ import annotations

import logging
import sys
from typing import Any

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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """A logger; first argument of its methods is a short fixed event name, the rest are fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
