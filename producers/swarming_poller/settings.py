"""Settings of the Swarming poller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PoolOfBots:
    """One pool of one Swarming server."""

    server: str
    """Such as `https://chromium-swarm.appspot.com`, without a slash at the end."""
    pool: str

    def __str__(self) -> str:
        return f"{self.server}={self.pool}"


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the OAuth access token comes from. It is asked for again before each round: tokens last an hour."""

    file: Path | None = None
    command: tuple[str, ...] = ()
    """A program that prints a token, such as `luci-auth token`; used if no file is named."""
    value: str | None = None
    """Used if neither is named. None: requests carry no token."""


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """What is polled, and how gently."""

    pools: tuple[PoolOfBots, ...]
    period: timedelta = timedelta(minutes=1)
    """From the beginning of one round to the beginning of the next."""
    requests_per_second: float = 2.0
    """To each server, at most; they count per client."""
    page: int = 1000
    """Bots asked for at once: as many as a Swarming server gives."""
    request_timeout: timedelta = timedelta(seconds=60)
    """A page of 1,000 bots takes a server some seconds."""
    token: TokenSource = TokenSource()
