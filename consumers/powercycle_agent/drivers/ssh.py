"""The SSH connection that drivers share: kept open between calls, its host key always checked.

What asyncssh raises is translated here, once, and what it is told stays out of every text.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import asyncssh
from asyncssh.packet import PacketDecodeError

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.limits import connecting_within, within
from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.ssh_settings import SSH_PORT, SshSettings

OUTPUT_LIMIT: Final = 64 * 1024
"""Bytes that one command may write."""
_KEEP_ALIVE_S: Final = 30
_CLOSING_S: Final = 1
_SHOWN: Final = 200
_FIRST_TRY: Final = 1 / 3
"""Part of a call's time for which a connection from before is given its chance."""
_NOBODY: Final[tuple[list[str], list[str], list[str]]] = ([], [], [])
_MODERN: Final[dict[str, Any]] = {
    "kex_algs": "-*sha1",
    "mac_algs": "-*md5*",
    "server_host_key_algs": "-ssh-rsa",
}
_LEGACY: Final[dict[str, Any]] = {
    "kex_algs": "+diffie-hellman-group1-sha1,diffie-hellman-group-exchange-sha1",
    "encryption_algs": "+aes256-cbc,aes128-cbc,3des-cbc",
    "mac_algs": "+hmac-sha1-96,hmac-md5",
}

Session = TypeVar("Session")
Result = TypeVar("Result")


class _HostKeyCheck(asyncssh.SSHClient):
    """Asked about every host key that is not among the known hosts, and remembers which it was."""

    def __init__(self, pinned: str | None, known: Any = _NOBODY) -> None:
        self._pinned = pinned
        self._known = known
        self.shown: asyncssh.SSHKey | None = None
        self.was_another = False
        """Whether the known hosts have other keys for it."""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key
        known = asyncssh.match_known_hosts(self._known, host, addr, port)[0]
        # Without a line for this port asyncssh goes by the host's, which is another device's.
        of_host = asyncssh.match_known_hosts(self._known, host, addr, None)[0] if port != SSH_PORT else []
        self.was_another = bool(known) and known != of_host
        fingerprint = key.get_fingerprint()
        if self._pinned is not None:
            pinned = self._pinned
            if not pinned.startswith("SHA256:"):
                pinned = asyncssh.import_public_key(pinned).get_fingerprint()
            if fingerprint == pinned.rstrip("="):
                return True
        return False


class SshLink(Generic[Session]):
    """The way to one device. Calls come one at a time.

    A session is what `start` makes of a connection. It is kept for the next call if all went well, and dropped with its
    connection as soon as anything did not: nobody can know what it would say next.
    """

    def __init__(
        self,
        settings: SshSettings,
        secrets: Secrets,
        start: Callable[[asyncssh.SSHClientConnection], Awaitable[Session]],
        *,
        needs_password: bool,
    ) -> None:
        """`needs_password`: one must be found, if the entry names no key; else keys serve, and a password only if it is named."""
        self._settings = settings
        self._secrets = secrets
        self._start = start
        self._needs_password = needs_password
        self._kept: _Kept[Session] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def call(self, work: Callable[[Session], Awaitable[Result]]) -> Result:
        """Do `work`, over the connection from before or else over a new one, within the device's limit.

        `work` may be done twice, the second time over a new connection, when the one from before had died or had been
        left in a strange state.
        """
        limit_s = self._settings.limit_s
        async with within(limit_s, self._settings.target):
            kept = self._take()
            if kept is not None:
                try:
                    async with asyncio.timeout(limit_s * _FIRST_TRY):
                        return await self._do(kept, work)
                except UnknownPort:
                    pass  # nothing was done; perhaps the session was in a strange state
                except (TimeoutError, DriverError):
                    return await self._do_again(work)  # whatever was wrong with it: a new one decides
            return await self._do(await self._connect(), work)

    async def _do_again(self, work: Callable[[Session], Awaitable[Result]]) -> Result:
        """After a try of which nobody knows how far it came."""
        try:
            return await self._do(await self._connect(), work)
        except (TurnedAway, UnknownPort) as error:  # which would say that nothing was done
            raise NotConfirmed(f"the connection broke in the middle, and then: {error}") from error
        except NotReached as error:  # likewise
            raise Unreachable(f"the connection broke in the middle, and then: {error}") from error

    async def close(self) -> None:
        """Drop the connection, if there is one."""
        connection = self._drop()
        if connection is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_S):
                    await connection.wait_closed()

    async def _do(self, kept: _Kept[Session], work: Callable[[Session], Awaitable[Result]]) -> Result:
        done = False
        try:
            with _translated(self._settings):
                result = await work(kept.session)
            done = True
        finally:
            if done:
                self._keep(kept)
            else:
                kept.connection.abort()
        return result

    async def _connect(self) -> _Kept[Session]:
        async with connecting_within(self._settings.limit_s, self._settings.target):
            connection = await _log_in(self._settings, self._secrets, needs_password=self._needs_password)
        session: Session | None = None
        try:
            with _translated(self._settings):
                session = await self._start(connection)
        finally:
            if session is None:
                connection.abort()
        return _Kept(connection, session)

    def _drop(self) -> asyncssh.SSHClientConnection | None:
        kept = self._take()
        if kept is None:
            return None
        kept.connection.abort()
        return kept.connection

    def _take(self) -> _Kept[Session] | None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        kept, self._kept = self._kept, None
        return None if kept is None or kept.connection.is_closed() else kept

    def _keep(self, kept: _Kept[Session]) -> None:
        if self._settings.keep_open == 0:
            kept.connection.abort()
            return
        self._drop()
        self._kept = kept
        self._expiry = asyncio.get_running_loop().call_later(self._settings.keep_open, self._drop)


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Session]):
    connection: asyncssh.SSHClientConnection
    session: Session


async def _log_in(
    settings: SshSettings, secrets: Secrets, *, needs_password: bool
) -> asyncssh.SSHClientConnection:
    login = _login(settings, secrets, needs_password=needs_password)
    known = _NOBODY if settings.host_key else _known_hosts(secrets)
    return await _open(settings, _HostKeyCheck(settings.host_key, known), known_hosts=known, **login)


async def _open(settings: SshSettings, check: _HostKeyCheck, **options: Any) -> asyncssh.SSHClientConnection:
    if settings.legacy_ssh:  # nobody can teach an old device another way, so nobody needs to be told
        warnings.filterwarnings("ignore", message="Diffie-Hellman over finite fields")
    with _translated(settings, check):
        try:
            return await asyncssh.connect(
                settings.address,
                settings.ssh_port,
                username=settings.user,
                client_factory=lambda: check,
                config=None,
                keepalive_interval=_KEEP_ALIVE_S,
                **(options | (_LEGACY if settings.legacy_ssh else _MODERN)),
            )
        except ValueError as error:  # numbers and texts in the greeting that make no sense
            raise asyncssh.ProtocolError(f"it does not speak SSH as it should ({error})") from error


@dataclass(frozen=True, slots=True)
class HostKey:
    """The key that a device shows."""

    line: str
    """As `known_hosts` has it."""
    fingerprint: str
    """`SHA256:…`, to be compared with what the device's own console shows."""


async def host_key(settings: SshSettings) -> HostKey:
    """Ask the device for its key, and believe it nothing else: nobody logs in. Raises `Unreachable` or `TurnedAway`."""
    check = _HostKeyCheck(None)
    try:
        async with within(settings.limit_s, settings.target):
            connection = await _open(settings, check, known_hosts=_NOBODY, client_keys=None, agent_path=None)
        connection.abort()
    except TurnedAway:
        if check.shown is None:
            raise
    if check.shown is None:
        raise TurnedAway(f"{settings.target} shows no host key")
    host = settings.address if settings.ssh_port == SSH_PORT else f"[{settings.address}]:{settings.ssh_port}"
    public = check.shown.export_public_key().decode().split()
    return HostKey(f"{host} {public[0]} {public[1]}", check.shown.get_fingerprint())


async def run(connection: asyncssh.SSHClientConnection, command: str) -> tuple[int, str]:
    """Exit status of `command` and all that it wrote, at most `OUTPUT_LIMIT` bytes. For the `work` of a `SshLink`."""
    process = await connection.create_process(command, stderr=asyncssh.STDOUT, encoding=None)
    try:
        written = b""
        while len(written) < OUTPUT_LIMIT:
            chunk = await process.stdout.read(OUTPUT_LIMIT - len(written))
            if not chunk:
                await process.wait_closed()
                break
            written += chunk
    finally:
        process.close()
    status = process.exit_status
    if status is None:
        raise asyncssh.ConnectionLost(f"the connection ended before {command!r} did")
    return status, written.decode("utf-8", "replace")


def _login(settings: SshSettings, secrets: Secrets, *, needs_password: bool) -> dict[str, Any]:
    if settings.key_file is not None:
        return {"client_keys": [_private_key(settings)], "agent_path": None, "preferred_auth": "publickey"}
    if not needs_password and not settings.names_a_password:
        return {"preferred_auth": "publickey"}  # with the keys that the agent's user has
    return {
        "password": settings.password_from(secrets, settings.target),
        "client_keys": None,
        "agent_path": None,
        "preferred_auth": "password,keyboard-interactive",
    }


def _private_key(settings: SshSettings) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(settings.key_file or "")
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise TurnedAway(
            f"cannot read the key of {settings.target} from {settings.key_file}: {plainly(error)}"
        ) from error


def _known_hosts(secrets: Secrets) -> Any:
    """Never something empty: that would mean the user's own file."""
    try:
        return asyncssh.read_known_hosts(str(secrets.known_hosts))
    except FileNotFoundError:
        return _NOBODY
    except (OSError, ValueError) as error:
        raise TurnedAway(
            f"cannot read the known host keys in {secrets.known_hosts}: {plainly(error)}"
        ) from error


@contextmanager
def _translated(settings: SshSettings, check: _HostKeyCheck | None = None) -> Iterator[None]:
    """With a `check` the connection is only being made."""
    who = settings.target
    try:
        yield
    except DriverError:
        raise
    except asyncssh.PermissionDenied as error:
        raise TurnedAway(f"{who} refuses the login: check user, and password or key") from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise TurnedAway(f"the host key of {who} {_unknown_key(settings, check)}") from error
    except asyncssh.KeyExchangeFailed as error:
        raise TurnedAway(_no_agreement(who, error.reason)) from error
    except TimeoutError:
        raise
    except (asyncssh.Error, PacketDecodeError, OSError, UnicodeError) as error:
        if check is not None:
            raise NotReached(f"cannot connect to {who}: {plainly(error)}") from error
        raise Unreachable(f"{who} does not answer: {plainly(error)}") from error


def _unknown_key(settings: SshSettings, check: _HostKeyCheck | None) -> str:
    """What is wrong with the key, and what to do; never to be done without a look at the device."""
    shown = f"({check.shown.get_fingerprint()}) " if check is not None and check.shown else ""
    if settings.host_key:
        return f"{shown}is not the one in its entry; compare it with the device's, then change host_key there"
    if check is not None and check.was_another:
        return (
            f"{shown}has CHANGED: the device was reset or exchanged, or somebody stands between it and us; "
            "compare it with the device's, then run `labkeeper power trust --replace`"
        )
    return f"{shown}is not known; compare it with the device's, then run `labkeeper power trust`"


def _no_agreement(who: str, reason: str) -> str:
    _, _, offered = reason.partition(" and received ")
    if not offered:
        return f"{who} failed to agree on keys: {reason[:_SHOWN]}"
    return (
        f"{who} and this agent have no algorithm in common, or its host key is of another type than the known one; "
        f"for old devices set legacy_ssh; it offers {offered[:_SHOWN]}"
    )
