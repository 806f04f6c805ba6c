from __future__ import annotations

import asyncio
import io
import json
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.retry import Backoff
from producers.machine_monitor.swarming import SwarmingBot, SwarmingFailed, SwarmingSettings

pytestmark = pytest.mark.integration

BOT = """
import json, os, pathlib, subprocess, sys, time
here = pathlib.Path(sys.argv[0]).parent
starts = here / "starts"
child = None
if (here / "stay").exists():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with starts.open("a") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "id": os.environ["SWARMING_BOT_ID"],
        "secret": "LABKEEPER_TOKEN" in os.environ, "pid": os.getpid(), "child": child and child.pid}) + "\\n")
print("bot is up", file=sys.stderr, flush=True)
if child and not (here / "leave").exists():
    time.sleep(600)
"""


def bot_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__main__.py", BOT)
    return file.getvalue()


class Server:
    """The metadata server and the Swarming server in one."""

    def __init__(self) -> None:
        self.metadata_status = 200
        self.code_status = 200
        self.code = bot_zip()
        self.downloads = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_get("/bot_code", self._code)
        async with TestServer(app) as server:
            self.url = f"http://{server.host}:{server.port}"
            yield

    async def _token(self, request: web.Request) -> web.Response:
        assert request.headers["Metadata-Flavor"] == "Google"
        return web.json_response({"access_token": "ya29.x"}, status=self.metadata_status)

    async def _code(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer ya29.x"
        self.downloads += 1
        return web.Response(body=self.code, status=self.code_status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with server.listening():
        yield server


@pytest.fixture
async def bot(server: Server, tmp_path: Path) -> AsyncIterator[SwarmingBot]:
    settings = SwarmingSettings(
        tmp_path / "b" / "s" / "bot.zip", Path(sys.executable), f"{server.url}/token", server.url
    )
    async with aiohttp.ClientSession() as session:
        yield SwarmingBot(
            settings,
            "machine-1",
            session,
            environment={"PATH": "/usr/bin:/bin", "LABKEEPER_TOKEN": "s3cret"},
            backoff=Backoff(first_s=0.02, cap_s=0.02),
        )


@asynccontextmanager
async def running(bot: SwarmingBot) -> AsyncIterator[None]:
    task = asyncio.create_task(bot.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def started(folder: Path, count: int) -> list[dict[str, object]]:
    """What the bot's first starts noted, as soon as there were so many."""
    file = folder / "b" / "s" / "starts"
    async with asyncio.timeout(60):
        while not file.exists() or len(file.read_text().splitlines()) < count:
            await asyncio.sleep(0.02)
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_the_bot_is_downloaded_once_and_started_again_when_it_ends(
    bot: SwarmingBot, server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(bot):
        starts = await started(tmp_path, 2)
    assert server.downloads == 1
    assert (starts[0]["argv"], starts[0]["id"], starts[0]["secret"]) == (["start_bot"], "machine-1", False)
    captured = capfd.readouterr()
    assert "Swarming: bot is up" in captured.out + captured.err


async def test_a_bot_that_is_there_is_not_downloaded(
    bot: SwarmingBot, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "b" / "s").mkdir(parents=True)
    (tmp_path / "b" / "s" / "bot.zip").write_bytes(bot_zip())
    async with running(bot):
        await started(tmp_path, 1)
    assert server.downloads == 0


async def test_the_bot_and_its_children_end_with_the_monitor(bot: SwarmingBot, tmp_path: Path) -> None:
    (tmp_path / "b" / "s").mkdir(parents=True)
    (tmp_path / "b" / "s" / "stay").touch()
    async with running(bot):
        (start,) = await started(tmp_path, 1)
    assert isinstance(start["pid"], int)
    assert isinstance(start["child"], int)
    await ended(start["pid"], start["child"])


async def test_what_a_bot_left_behind_ends_before_the_next_one_starts(
    bot: SwarmingBot, tmp_path: Path
) -> None:
    folder = tmp_path / "b" / "s"
    folder.mkdir(parents=True)
    (folder / "stay").touch()
    (folder / "leave").touch()
    async with running(bot):
        first, *_ = await started(tmp_path, 2)
        assert isinstance(first["child"], int)
        await ended(first["child"])


async def ended(*pids: int) -> None:
    async with asyncio.timeout(60):
        while any(is_running(pid) for pid in pids):
            await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_a_failed_download_is_tried_again(bot: SwarmingBot, server: Server, tmp_path: Path) -> None:
    server.code_status = 503
    async with running(bot):
        async with asyncio.timeout(60):
            while server.downloads < 2:
                await asyncio.sleep(0.02)
        server.code_status = 200
        await started(tmp_path, 1)


@pytest.mark.parametrize(
    ("metadata_status", "code_status", "code", "reason"),
    [
        (404, 200, bot_zip(), "Metadata bad status code: 404"),
        (200, 401, bot_zip(), "Swarming server bad status code: 401"),
        (200, 200, b"<html>log in</html>", "did not send a zip file"),
    ],
)
async def test_a_download_that_fails_leaves_no_file(
    bot: SwarmingBot,
    server: Server,
    tmp_path: Path,
    metadata_status: int,
    code_status: int,
    code: bytes,
    reason: str,
) -> None:
    server.metadata_status, server.code_status, server.code = metadata_status, code_status, code
    with pytest.raises(SwarmingFailed, match=reason):
        await bot.fetch()
    assert not (tmp_path / "b").exists()


async def test_a_server_that_is_not_there_is_a_failed_download(server: Server, tmp_path: Path) -> None:
    settings = SwarmingSettings(
        tmp_path / "bot.zip", Path(sys.executable), "http://127.0.0.1:1/token", server.url
    )
    async with aiohttp.ClientSession() as session:
        with pytest.raises(SwarmingFailed, match="cannot be downloaded"):
            await SwarmingBot(settings, "machine-1", session, environment={}).fetch()
