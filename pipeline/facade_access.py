"""How a program proves to a façade who it is, and which addresses can be a façade's. No HTTP in here: that stays at the edges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pipeline.errors import Misconfigured

DEFAULT_URL: Final = "http://127.0.0.1:8000"
"""Where `labkeeper up` and a façade without options listen."""
TOKEN_VARIABLE: Final = "LABKEEPER_TOKEN"  # noqa: S105  # the name of a variable, not a token
_LIMIT: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Token:
    """What proves who we are. A file is read for every request, so that it can be replaced."""

    value: str = ""
    file: Path | None = None

    def __repr__(self) -> str:
        return f"Token(file={self.file})"

    def header(self) -> dict[str, str]:
        """Header to send; none without a token. Raises `Misconfigured` when the file is not as it should be."""
        token = self.value
        if self.file is not None:
            try:
                with self.file.open(encoding="utf-8") as file:
                    token = file.read(_LIMIT).strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise Misconfigured(f"the token file {self.file} cannot be read: {reason}") from error
        if token and not _TOKEN.fullmatch(token):
            raise Misconfigured("the token must be printable ASCII without blanks")
        return {"Authorization": f"Bearer {token}"} if token else {}


def check_url(url: str) -> str:
    """The URL without a final slash. Raises `Misconfigured` unless it is http(s) with a host and nothing after the path."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise Misconfigured(f"{url!r} is no server address: give one such as https://labkeeper.example.org")
    if parts.username or parts.password:
        raise Misconfigured("a server address must not hold a user or password: use a token")
    return url.rstrip("/")
