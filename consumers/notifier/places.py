"""The notifier's file as it is now: read again when it changes; a bad new one leaves the old in force, and is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from consumers.notifier.channels import Channel, open_channels
from consumers.notifier.configuration import Configuration, read_configuration
from pipeline import logs, metrics
from pipeline.clock import Clock
from pipeline.errors import Misconfigured
from pipeline.json5_file import file_mark

log = logs.get_logger()


class FilePlaces:
    """Channels and routes of a file."""

    def __init__(
        self, path: Path, session: aiohttp.ClientSession, environment: Mapping[str, str], clock: Clock
    ) -> None:
        """Raises `Misconfigured` when the file cannot be used."""
        self._path = path
        self._session = session
        self._environment = environment
        self._clock = clock
        self._mark = file_mark(path)
        self._take(read_configuration(path))

    def _take(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.channels: dict[str, Channel] = open_channels(
            configuration, self._session, self._environment, self._clock
        )
        metrics.NOTIFIER_CONFIGURATION_BAD.set(0)

    async def look(self) -> None:
        """Read the file again if it has changed."""
        mark = await asyncio.to_thread(file_mark, self._path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._take(await asyncio.to_thread(read_configuration, self._path))
        except Misconfigured as error:
            metrics.NOTIFIER_CONFIGURATION_BAD.set(1)
            log.warning("configuration_refused", reason=str(error), note="the old one stays in force")
        else:
            log.info("configuration_read", channels=list(self.channels))
