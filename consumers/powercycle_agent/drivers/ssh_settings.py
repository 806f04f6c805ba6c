"""What an entry says of a controller that is spoken to over SSH."""

from __future__ import annotations

import re
from typing import Annotated, Final

import asyncssh
from pydantic import Field, field_validator, model_validator

from consumers.powercycle_agent.drivers.passwords import PasswordSettings

SSH_PORT: Final = 22
"""SSH's own; known hosts and errors name others only."""
_HOST: Final = re.compile(r"[A-Za-z0-9.:_-]{0,253}")


class SshSettings(PasswordSettings):
    """A controller that is spoken to over SSH."""

    demanded = frozenset({"address", "user"})

    address: str = ""
    """Host name or IP address."""
    user: Annotated[str, Field(max_length=64)] = ""
    """Who logs in."""
    ssh_port: Annotated[int, Field(ge=1, le=65535)] = SSH_PORT
    """Where its SSH server listens."""
    key_file: str | None = None
    """Private key without passphrase."""
    host_key: str | None = None
    """The device's key, as `ssh-ed25519 AAAA…` or `SHA256:…`; by default it must be among the known hosts."""
    legacy_ssh: bool = False
    """Take algorithms that are no longer thought safe, such as `diffie-hellman-group1-sha1`. Only where a device has no better."""
    confirm_s: Annotated[float, Field(gt=0, le=300)] = 2
    """Seconds that a port may take to be as it was told."""
    keep_open: Annotated[float, Field(ge=0, le=86400)] = 900
    """Seconds that a connection is kept for the next command. 0: none is; for devices that have few to give."""

    @model_validator(mode="after")
    def _is_complete(self) -> SshSettings:
        if not (self.address and self.user):
            raise ValueError("You must specify a user and ip address.")
        return self

    @field_validator("address")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        if not _HOST.fullmatch(value):
            raise ValueError(
                "must be a host name or an IP address, such as 10.0.0.5; another port goes into ssh_port"
            )
        return value

    @field_validator("host_key")
    @classmethod
    def _is_a_key(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("SHA256:"):
            try:
                asyncssh.import_public_key(value)
            except asyncssh.KeyImportError:
                raise ValueError("neither a public key nor a fingerprint that begins with SHA256:") from None
        return value

    @property
    def place(self) -> str:
        """Address and port."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.ssh_port}"

    @property
    def target(self) -> str:
        """Names the device in errors."""
        port = "" if self.ssh_port == SSH_PORT else f" port {self.ssh_port}"
        return f"{self.user}@{self.address}{port}"
