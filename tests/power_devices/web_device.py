"""What fake devices with a web server have in common."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from abc import abstractmethod
from base64 import b64encode
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.power_devices.device import Mood, PowerDevice
from tests.power_devices.gate import Gate

PASSWORD = 'pä ss&w"ord/#1'
WRONG_PASSWORD = "changed meanwhile"


class WebPowerDevice(PowerDevice):
    """A device whose web server is aiohttp's, behind a gate."""

    def __init__(self, ports: Sequence[str]) -> None:
        super().__init__(ports)
        self._gate = Gate(lambda: self.mood is Mood.HANGS)
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """Of its web server."""
        return f"http://127.0.0.1:{self._gate.port}"

    @property
    def password(self) -> str:
        """What it wants now."""
        return WRONG_PASSWORD if self.mood is Mood.REFUSES else PASSWORD

    async def start(self) -> None:
        application = web.Application(middlewares=[self._listen])
        self.routes(application.router)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        await self._gate.open(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._gate.shut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def break_off(self) -> None:
        await self._gate.cut()

    @abstractmethod
    def routes(self, router: web.UrlDispatcher) -> None:
        """Add what it answers to."""

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        """How it sends somebody away; None: come in."""
        return None

    @web.middleware
    async def _listen(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self.guard(request)
        if refusal is not None:
            return refusal
        self.note(f"{request.method} {request.path_qs}")
        if self.mood is Mood.BABBLES:
            return web.Response(text="<html>Factory test mode", content_type="text/html")
        return await handler(request)


def basic(request: web.Request, user: str, password: str) -> web.Response | None:
    """Ask for basic authentication."""
    wanted = b64encode(f"{user}:{password}".encode()).decode()
    if request.headers.get("Authorization") == f"Basic {wanted}":
        return None
    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="device"'}, text="Unauthorized")


class Digest:
    """Asks for digest authentication (RFC 7616, quality of protection `auth`), with counted nonces."""

    def __init__(self, realm: str, algorithm: str) -> None:
        self._realm = realm
        self._algorithm = algorithm
        self._counts: dict[str, int] = {}

    def ask(self, request: web.Request, user: str, password: str) -> web.Response | None:
        """None: the request is from the user."""
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Digest" and self._is_right(request, dict(_fields(rest)), user, password):
            return None
        nonce = secrets.token_hex(8)
        self._counts[nonce] = 0
        challenge = f'Digest qop="auth", realm="{self._realm}", nonce="{nonce}", algorithm={self._algorithm}'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge}, text="Unauthorized")

    def _is_right(self, request: web.Request, given: dict[str, str], user: str, password: str) -> bool:
        nonce = given.get("nonce", "")
        count = int(given.get("nc", "0"), 16)
        if (
            given.get("username") != user
            or given.get("qop") != "auth"
            or count <= self._counts.get(nonce, 1 << 32)
        ):
            return False
        if given.get("uri") != request.raw_path:
            return False
        identity = self._hash(f"{user}:{self._realm}:{password}")
        action = self._hash(f"{request.method}:{given['uri']}")
        wanted = self._hash(f"{identity}:{nonce}:{given['nc']}:{given.get('cnonce')}:auth:{action}")
        if not hmac.compare_digest(given.get("response", ""), wanted):
            return False
        self._counts[nonce] = count
        return True

    def _hash(self, text: str) -> str:
        kind = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}[self._algorithm]
        return kind(text.encode()).hexdigest()


def _fields(text: str) -> list[tuple[str, str]]:
    return [
        (name, quoted or plain) for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', text)
    ]
