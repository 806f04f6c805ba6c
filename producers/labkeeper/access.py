"""Where the façade is and what we show at its door: the options that every command shares that talks to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline import command as commands
from pipeline.command import CommandFailed, ExitCode
from pipeline.facade_access import DEFAULT_URL, TOKEN_VARIABLE

_LONGEST_TOKEN: Final = 16_384


@dataclass(frozen=True, slots=True)
class Access:
    """A façade and who we are to it."""

    url: str
    """Without a slash at the end."""
    token: str | None = field(default=None, repr=False)


def facade_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--url` and `--token-file`; the command gets an `Access` as its first argument instead of them."""

    @commands.url_option("Where the façade is.", default=DEFAULT_URL)
    @commands.token_file_option("File with your API token.")
    @functools.wraps(function)
    def with_access(*args: Any, url: str, token_file: Path | None, **options: Any) -> Any:
        return function(access_to(url, token_file), *args, **options)

    return with_access


def access_to(url: str, token_file: Path | None) -> Access:
    """Check the address and read the token. Raises `CommandFailed`."""
    _check_address(url)
    token = os.environ.get(TOKEN_VARIABLE) if token_file is None else _read(token_file)
    return Access(url.rstrip("/"), _checked(token, token_file) if token else None)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise CommandFailed(
            f"{url!r} is no address of a façade: use one such as {DEFAULT_URL}", ExitCode.USAGE
        )
    if parts.username or parts.password:
        raise CommandFailed(
            f"keep credentials out of --url: use --token-file or {TOKEN_VARIABLE}", ExitCode.USAGE
        )


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            token = file.read(_LONGEST_TOKEN + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read the token in {path}: {error}", ExitCode.USAGE) from error
    if not token.strip():
        raise CommandFailed(f"there is no token in {path}: the file is empty", ExitCode.USAGE)
    return token


def _checked(token: str, source: Path | None) -> str:
    token = token.strip()
    if len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        where = TOKEN_VARIABLE if source is None else str(source)
        raise CommandFailed(f"what is in {where} is no API token: expected one word", ExitCode.USAGE)
    return token
