"""Fetches the Swarming bot once and keeps it running. What goes wrong is logged and tried again later, ever more slowly.

Unlike the original, the bot is told the machine's id also when nobody set `SWARMING_BOT_ID`, and learns none of
Labkeeper's own settings.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from pipeline import logs
from pipeline.errors import Misconfigured, Retryable
from pipeline.metrics import SWARMING_ALIVE
from pipeline.retry import Backoff
from producers.machine_monitor.files import write_whole
from producers.machine_monitor.identity import ID_VARIABLE

DEFAULT_METADATA_URL: Final = (
    "http://metadata:8000/computeMetadata/v1/instance/service-accounts/default/token"
)
_BOT_LIMIT: Final = 64 * 1024 * 1024
_TOKEN_LIMIT: Final = 64 * 1024
_TIME: Final = aiohttp.ClientTimeout(total=300, sock_connect=10)
_LINE_LIMIT: Final = 8 * 1024
_HEALTHY_S: Final = 60.0
"""A bot that ran so long did not die of what killed the one before."""
_PARTING_S: Final = 10.0
"""How long a bot may take to end when asked."""
_PRIVATE_PREFIX: Final = "LABKEEPER_"
_TOKEN = re.compile(r"[!-~]+")


class SwarmingFailed(Retryable):
    """The bot could not be fetched or started; the text says why."""


@dataclass(frozen=True, slots=True)
class SwarmingSettings:
    """Where the bot comes from and how it is started. Raises `Misconfigured` for relative paths."""

    bot_zip: Path
    python_exe: Path
    metadata_url: str = DEFAULT_METADATA_URL
    server: str = ""
    """Empty: by the machine id."""

    def __post_init__(self) -> None:
        for option, path in (("--swarming-bot-zip", self.bot_zip), ("--python-exe", self.python_exe)):
            if not path.is_absolute():
                raise Misconfigured(f"{option} must be an absolute path, not {str(path)!r}")


class SwarmingBot:
    """The bot as a child process."""

    def __init__(
        self,
        settings: SwarmingSettings,
        machine_id: str,
        session: aiohttp.ClientSession,
        *,
        environment: Mapping[str, str],
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._machine_id = machine_id
        self._session = session
        self._environment = bot_environment(environment, machine_id)
        self._backoff = backoff or Backoff(first_s=2, cap_s=300)

    async def run(self) -> None:
        """Keep the bot running for ever. When cancelled, the bot and all it started are ended."""
        while True:
            started = time.monotonic()
            try:
                await self.fetch()
                await self._run_once()
            except SwarmingFailed as error:
                logs.get_logger().error("swarming bot does not run", reason=str(error))
            if time.monotonic() - started >= _HEALTHY_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next())

    async def fetch(self) -> None:
        """Download the bot unless it is there. Raises `SwarmingFailed`."""
        target = self._settings.bot_zip
        if await asyncio.to_thread(target.exists):
            return
        try:
            code = await self._download(await self._access_token())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SwarmingFailed(
                f"the bot cannot be downloaded: {str(error) or type(error).__name__}"
            ) from error
        if not zipfile.is_zipfile(io.BytesIO(code)):
            raise SwarmingFailed("the Swarming server did not send a zip file")
        try:
            await asyncio.to_thread(_save, target, code)
        except OSError as error:
            raise SwarmingFailed(f"{target} cannot be written: {error.strerror}") from error

    async def _access_token(self) -> str:
        async with self._session.get(
            self._settings.metadata_url, headers={"Metadata-Flavor": "Google"}, timeout=_TIME
        ) as answer:
            if answer.status != 200:
                raise SwarmingFailed(f"Metadata bad status code: {answer.status}")
            content = await answer.content.read(_TOKEN_LIMIT)
        return parse_access_token(content)

    async def _download(self, access_token: str) -> bytes:
        server = self._settings.server or swarming_server(self._machine_id)
        code = bytearray()
        async with self._session.get(
            f"{server}/bot_code", headers={"Authorization": f"Bearer {access_token}"}, timeout=_TIME
        ) as answer:
            if answer.status != 200:
                raise SwarmingFailed(f"Swarming server bad status code: {answer.status}")
            async for chunk in answer.content.iter_chunked(64 * 1024):
                code += chunk
                if len(code) > _BOT_LIMIT:
                    raise SwarmingFailed(f"the Swarming server sent more than {_BOT_LIMIT} bytes")
        return bytes(code)

    async def _run_once(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.subprocess_exec(
                partial(_BotProtocol, loop),
                str(self._settings.python_exe),
                str(self._settings.bot_zip),
                "start_bot",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise SwarmingFailed(f"{self._settings.python_exe} cannot be run: {error.strerror}") from error
        process = asyncio.subprocess.Process(transport, protocol, loop)
        alive = SWARMING_ALIVE.labels(self._machine_id)
        alive.set(1)
        assert process.stderr is not None
        reading = asyncio.create_task(_log_lines(process.stderr))
        try:
            await protocol.exited.wait()
        finally:
            alive.set(0)
            await _end(process, protocol.exited)
            reading.cancel()
        logs.get_logger().warning("swarming bot ended", status=process.returncode)


class _BotProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the bot itself has ended: `Process.wait` also waits for all who inherited its stderr."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=2 * _LINE_LIMIT, loop=loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


def swarming_server(machine_id: str) -> str:
    """Which Swarming server a machine belongs to, by its id."""
    if machine_id.startswith("skia-i-"):
        return "https://chrome-swarming.appspot.com"
    if machine_id.startswith("skia-d-"):
        return "https://chromium-swarm-dev.appspot.com"
    return "https://chromium-swarm.appspot.com"


def parse_access_token(content: bytes) -> str:
    """`access_token` of the metadata server's answer. Raises `SwarmingFailed`, showing at most ten characters."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        shown = content[:10].decode("utf-8", "replace")
        raise SwarmingFailed(f"Failed to decode metadata: {shown!r}") from error
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise SwarmingFailed("Failed to decode metadata: it has no usable access_token")
    return token


def bot_environment(environment: Mapping[str, str], machine_id: str) -> dict[str, str]:
    """What the bot, and so any task, may know of our environment: nothing of Labkeeper's, tokens least of all."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_PRIVATE_PREFIX)}
    return kept | {ID_VARIABLE: machine_id}


def _save(target: Path, code: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, code, mode=0o644)


async def _log_lines(stream: asyncio.StreamReader) -> None:
    async for line in _lines(stream):
        logs.get_logger().info(f"Swarming: {line}")


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines as they come; longer ones are cut in pieces."""
    rest = b""
    while chunk := await stream.read(_LINE_LIMIT):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) >= _LINE_LIMIT:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process, exited: asyncio.Event) -> None:
    """Ask the bot to end, and make it end when it does not. What it started ends with it, also if it ended by itself."""
    if process.returncode is not None:
        _kill(process)
        return
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_PARTING_S):
            await exited.wait()
    except TimeoutError:
        logs.get_logger().warning("swarming bot did not end when asked")
    finally:
        _kill(process)
    await exited.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    """End all that is left of the bot's process group; its number is not given to others while anything is."""
    if sys.platform != "win32":
        _signal(process, signal.SIGKILL)
    elif process.returncode is None:
        process.kill()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, number)
