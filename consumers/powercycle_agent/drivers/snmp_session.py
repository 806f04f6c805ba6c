"""One SNMP agent, asked with pysnmp. Needs the extra `snmp`; pysnmp's errors are translated here, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, ClassVar, Final

from pysnmp.error import PySnmpError
from pysnmp.hlapi.v3arch.asyncio import (
    USM_AUTH_HMAC96_MD5,
    USM_AUTH_HMAC96_SHA,
    USM_AUTH_HMAC128_SHA224,
    USM_AUTH_HMAC192_SHA256,
    USM_AUTH_HMAC256_SHA384,
    USM_AUTH_HMAC384_SHA512,
    USM_PRIV_CBC56_DES,
    USM_PRIV_CFB128_AES,
    USM_PRIV_CFB192_AES,
    USM_PRIV_CFB256_AES,
    CommunityData,
    ContextData,
    Integer32,
    ObjectIdentity,
    ObjectType,
    SnmpEngine,
    Udp6TransportTarget,
    UdpTransportTarget,
    UsmUserData,
    get_cmd,
    set_cmd,
)
from pysnmp.hlapi.v3arch.asyncio.lcd import CommandGeneratorLcdConfigurator
from pysnmp.proto import errind
from pysnmp.proto.rfc1905 import EndOfMibView, NoSuchInstance, NoSuchObject

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.snmp_outlets import SnmpSettings, password

_AUTH: Final = {
    "md5": USM_AUTH_HMAC96_MD5,
    "sha1": USM_AUTH_HMAC96_SHA,
    "sha224": USM_AUTH_HMAC128_SHA224,
    "sha256": USM_AUTH_HMAC192_SHA256,
    "sha384": USM_AUTH_HMAC256_SHA384,
    "sha512": USM_AUTH_HMAC384_SHA512,
}
_PRIV: Final = {
    "des": USM_PRIV_CBC56_DES,
    "aes128": USM_PRIV_CFB128_AES,
    "aes192": USM_PRIV_CFB192_AES,
    "aes256": USM_PRIV_CFB256_AES,
}
_TURNED_AWAY: Final = (
    errind.UnknownUserName,
    errind.UnknownSecurityName,
    errind.UnsupportedSecurityLevel,
    errind.UnsupportedAuthProtocol,
    errind.UnsupportedPrivProtocol,
    errind.WrongDigest,
    errind.AuthenticationError,
    errind.AuthenticationFailure,
    errind.NoAuthentication,
    errind.NoEncryption,
    errind.DecryptionError,
    errind.UnknownCommunityName,
)
_OUT_OF_STEP: Final = (errind.NotInTimeWindow, errind.UnknownEngineID, errind.EngineIDMismatch)
"""The agent is not the one that it was, or has started anew: a fresh start helps."""
_NO_SUCH_NAME, _READ_ONLY, _NO_ACCESS, _NO_CREATION, _AUTHORIZATION, _NOT_WRITABLE = 2, 4, 6, 11, 16, 17
"""Error statuses (RFC 3416)."""
_MOST_IDLE: Final = 32
"""Engines that are kept; a few megabytes each."""
_A_MOMENT_S: Final = 0.001
"""The event loop ends this wait after those that were over before it, such as the call's limit."""


class SnmpSession:
    """Asks one agent for numbers, and sets them. Keeps what version 3 has learnt of the agent between calls."""

    _idle: ClassVar[dict[tuple[str, ...], list[SnmpEngine]]] = {}
    """Account → engines of closed sessions. pysnmp compiles a dozen MIBs for a new one, and nothing else happens meanwhile:
    a tenth of a second for each PDU whenever the configuration is read again.
    """

    def __init__(self, settings: SnmpSettings, secrets: Secrets, device: str) -> None:
        """`device`: how errors name it."""
        self._settings = settings
        self._secrets = secrets
        self._device = device
        self._engine: SnmpEngine | None = None
        self._account: tuple[str, ...] = ()
        """What our engine knows."""

    async def get(self, oid: str) -> int | None:
        """The number there; None: there is nothing. Raises `Unreachable`, `TurnedAway`, `NotConfirmed`."""
        status, value = await self._ask(get_cmd, ObjectType(ObjectIdentity(oid)))
        if status == _NO_SUCH_NAME or isinstance(value, NoSuchObject | NoSuchInstance | EndOfMibView):
            return None
        if status:
            raise self._refused(status, oid)
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise NotConfirmed(f"{self._device} has no number at {oid}") from error

    async def set(self, oid: str, value: int) -> None:
        """Return once the agent has taken it. Raises `Unreachable`, `TurnedAway`, `UnknownPort`, `NotConfirmed`."""
        status, _ = await self._ask(set_cmd, ObjectType(ObjectIdentity(oid), Integer32(value)))
        if status:
            raise self._refused(status, oid)

    async def close(self) -> None:
        """Let go of the socket. May be called twice."""
        engine = self._let_go()
        if engine is not None and sum(map(len, self._idle.values())) < _MOST_IDLE:
            closed_socket = CommandGeneratorLcdConfigurator.__name__
            engine.set_user_context(**{closed_socket: None})
            self._idle.setdefault(self._account, []).append(engine)
        await asyncio.sleep(0)  # the event loop closes sockets in its next round

    async def _ask(self, ask: Any, variable: ObjectType) -> tuple[int, Any]:
        """Error status, and the variable's value."""
        login = self._login()
        try:
            engine, target = await self._open(), await self._target()
            asked = ask(engine, login, target, ContextData(), variable, lookupMib=False)
            failure, status, _, variables = await self._answer(asked)
        except PySnmpError as error:
            self._let_go()
            raise Unreachable(f"cannot ask {self._device}: {str(error)[:200]}") from None
        if isinstance(failure, _OUT_OF_STEP + _TURNED_AWAY):
            self._let_go()  # what it knows of the agent may be out of date
        if failure is not None:
            raise self._translated(failure)
        if len(variables) != 1:
            raise NotConfirmed(f"{self._device} answered {len(variables)} variables instead of one")
        return int(status), variables[0][1]

    async def _open(self) -> SnmpEngine:
        """Where a new engine takes all the time that the call has, the call ends here: nothing was asked, and the next one
        has the engine.
        """
        if self._engine is None:
            idle = self._idle.get(self._account)
            self._engine = idle.pop() if idle else SnmpEngine()
            await asyncio.sleep(_A_MOMENT_S)
        return self._engine

    async def _answer(self, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except asyncio.CancelledError:
            self._let_go()  # else it would go on repeating the question, and turn a port long after
            raise

    def _let_go(self) -> SnmpEngine | None:
        """Close the socket at once. Returns what is left: an engine without one."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close_dispatcher()
        return engine

    def _login(self) -> CommunityData | UsmUserData:
        settings = self._settings
        names = ("auth_password", "priv_password") if settings.priv else ("auth_password",)
        if settings.user is None:
            names = ("community",)
        words = [password(settings, self._secrets, name, self._device) for name in names]
        account = (settings.version, settings.user or "", settings.auth, settings.priv or "", *words)
        if account != self._account:
            self._let_go()
            self._account = account
        if settings.user is None:
            return CommunityData(words[0], mpModel=0 if settings.version == "1" else 1)
        auth, priv = words[0], words[1] if settings.priv else None
        return UsmUserData(
            settings.user,
            authKey=auth,
            authProtocol=_AUTH[settings.auth],
            privKey=priv,
            privProtocol=_PRIV[settings.priv] if settings.priv else None,
        )

    async def _target(self) -> UdpTransportTarget | Udp6TransportTarget:
        settings = self._settings
        kind = Udp6TransportTarget if ":" in settings.address else UdpTransportTarget
        return await kind.create(
            (settings.address, settings.udp_port), timeout=settings.answer_s, retries=settings.repeats
        )

    def _translated(self, failure: object) -> DriverError:
        if isinstance(failure, errind.RequestTimedOut):
            hint = "" if self._settings.user else " (a wrong community looks the same)"
            return Unreachable(f"{self._device} does not answer{hint}")
        if isinstance(failure, _OUT_OF_STEP):
            return Unreachable(f"{self._device} is out of step with us: {failure}")
        if isinstance(failure, _TURNED_AWAY):
            return TurnedAway(f"{self._device} does not let {self._settings.user} in: {failure}")
        return NotConfirmed(f"{self._device} answered with an error: {failure}")

    def _refused(self, status: int, oid: str) -> DriverError:
        if status in {_READ_ONLY, _NO_ACCESS, _AUTHORIZATION, _NOT_WRITABLE, _NO_SUCH_NAME}:
            return TurnedAway(f"{self._device} does not let us write {oid}: check what the account may do")
        if status == _NO_CREATION:
            return UnknownPort(f"{self._device} has nothing at {oid}")
        return NotConfirmed(f"{self._device} refused to set {oid}: error status {status}")
