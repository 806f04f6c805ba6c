"""API tokens: a file with a line for each, `role:name:sha256 of the token in hex`. The tokens themselves are kept nowhere.

Lines that are empty or begin with `#` do not count. The file is read again when it changes, so a token is revoked by
deleting its line.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import click

from pipeline import logs
from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import Misconfigured
from pipeline.store.protocol import LABKEEPER_USER
from schemas.ids import is_caller_name, is_machine_id

TOKEN_PREFIX: Final = "lk_"  # noqa: S105  # makes a leaked one easy to find, is none itself
_LOOK_EVERY_S: Final = 1.0

_hash = re.compile(r"[0-9a-f]{64}")

log = logs.get_logger()


class Role(StrEnum):
    """What a caller may do: `viewer` < `operator` < `admin` for people, the others for programs."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    MACHINE = "machine"
    """A monitor. Speaks for the one machine that it is named after."""
    AGENT = "agent"
    """Handles power controllers."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    user: str
    """An e-mail address or other name; of a machine its id."""
    role: Role


def hash_of(token: str) -> str:
    """What the file keeps of a token. Tokens are random, so a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class TokenFile:
    """The callers that a file of tokens names."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises `Misconfigured` when that is not possible."""
        self._path = path
        self._seen = _state(path)
        self._callers = read_tokens(path)
        self._looked_at = time.monotonic()

    def caller_of(self, token: str) -> Caller | None:
        """Whom the token stands for, if anybody."""
        self._look_again()
        digest = hash_of(token)
        known = self._callers.get(digest)
        if known is None or not hmac.compare_digest(known[0], digest):
            return None
        return known[1]

    def _look_again(self) -> None:
        if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        try:
            state = _state(self._path)
            if state == self._seen:
                return
            self._callers = read_tokens(self._path)
        except Misconfigured as error:
            log.warning("token_file_not_read", reason=str(error), note="the tokens read before stay valid")
            return
        self._seen = state
        log.info("token_file_read", tokens=len(self._callers))


def _state(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise Misconfigured(f"cannot read the token file {path}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_tokens(path: Path) -> Mapping[str, tuple[str, Caller]]:
    """Hash to (hash, caller). Raises `Misconfigured`, naming the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"cannot read the token file {path}: {error}") from error
    callers = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            digest, caller = _read_line(text, f"{path}:{number}")
            callers[digest] = digest, caller
    return callers


def _read_line(line: str, place: str) -> tuple[str, Caller]:
    role, _, rest = line.partition(":")
    name, _, digest = rest.partition(":")
    if role not in set(Role):
        raise Misconfigured(f"{place}: the role must be one of {', '.join(Role)}")
    if not is_caller_name(name):
        raise Misconfigured(f"{place}: the name must be letters, digits and any of . _ @ + -")
    if not _hash.fullmatch(digest):
        raise Misconfigured(
            f"{place}: expected role:name:hash with the SHA-256 of a token, 64 lower-case hex digits"
        )
    return digest, Caller(name, Role(role))


def add_token(path: Path, role: Role, name: str) -> str:
    """Make a token, append its hash to the file (made with mode 0600 if it is not there), and return the token."""
    if not is_caller_name(name) or (role is Role.MACHINE and not is_machine_id(name)):
        what = (
            "a machine's token is named after the machine's id"
            if role is Role.MACHINE
            else "an e-mail address will do"
        )
        raise CommandFailed(
            f"{name!r} cannot be a token's name: letters, digits and any of . _ @ + - ({what})",
            ExitCode.USAGE,
        )
    if name == LABKEEPER_USER and role is not Role.MACHINE:
        raise CommandFailed(
            f"{name!r} signs what happens by itself, such as self-healing: choose another name",
            ExitCode.USAGE,
        )
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            unfinished = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            line = f"{role}:{name}:{hash_of(token)}\n"
            file.write(("\n" + line if unfinished else line).encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise CommandFailed(f"cannot write the token file {path}: {error.strerror}") from error
    return token


def revoke_tokens(path: Path, name: str) -> int:
    """Take away all tokens of this name; return how many there were. What else the file holds stays as it is."""
    read_tokens(path)  # a file that makes no sense is better not written
    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.strip().startswith("#") or line.strip().split(":")[1:2] != [name]]
    if len(kept) == len(lines):
        return 0
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, file.name)
        Path(file.name).replace(path)
    except OSError as error:
        raise CommandFailed(f"cannot write the token file {path}: {error.strerror}") from error
    return len(lines) - len(kept)


_FILE: Final = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    envvar="LABKEEPER_TOKENS",
    show_envvar=True,
    help="Where their hashes are kept; give the same file to `labkeeper facade --tokens`.",
)


@click.group("token")
def token_command() -> None:
    """Make, list and revoke API tokens."""


@token_command.command("new")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="What its bearer may do."
)
@click.option(
    "--name",
    required=True,
    help="Whom it stands for: an e-mail address, a program, or the id of the machine.",
)
@_FILE
def new_command(role: str, name: str, path: Path) -> None:
    """Make a token and print it, once: only its hash is kept.

    \b
      labkeeper token new --role operator --name alice@example.org --file tokens
      labkeeper token new --role machine --name rpi-1 --file tokens
    """
    click.echo(add_token(path, Role(role), name))


@token_command.command("list")
@_FILE
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json", "name"]),
    default="table",
    show_default=True,
    help="table is for people, json for programs, name is each name once, a line each.",
)
def list_command(path: Path, output: str) -> None:
    """Show for whom there are tokens: role, name, and how the token's hash begins.

    \b
      labkeeper token list --file tokens
      labkeeper token list --file tokens --output json
    """
    click.echo(_listing(read_tokens(path), output), nl=False)


def _listing(callers: Mapping[str, tuple[str, Caller]], form: str) -> str:
    found = [(caller.role, caller.user, digest[:12]) for digest, caller in callers.values()]
    if form == "json":
        documents = [{"role": role, "name": name, "hash": begin} for role, name, begin in found]
        return json.dumps(documents, indent=2) + "\n"
    if form == "name":
        lines = list(dict.fromkeys(name for _, name, _ in found))
    else:
        width = max((len(name) for _, name, _ in found), default=0)
        lines = [f"{role:<8}  {name:<{width}}  {begin}" for role, name, begin in found]
    return "".join(f"{line}\n" for line in lines)


@token_command.command("revoke")
@click.option("--name", required=True, help="Whose tokens.")
@_FILE
def revoke_command(name: str, path: Path) -> None:
    """Take away all tokens of a person, program or machine. A running façade notices within a second.

    \b
      labkeeper token revoke --name alice@example.org --file tokens
    """
    count = revoke_tokens(path, name)
    if count == 0:
        raise CommandFailed(f"nobody called {name!r} has a token in {path}", ExitCode.NOT_FOUND)
    click.echo(f"{count} revoked")
