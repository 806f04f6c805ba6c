"""Anything that switches when an URL is asked for: home-made relays, cloud plugs, a lab's own power service.

For HTTP services whose answer to a command is a 2xx status. `{port}` in paths and bodies stands for the port, `{password}`
in paths, bodies and headers for the password. With a `user`, basic or digest authentication is done, as the service asks.
`status` says where the state of a port can be read; without it nothing is confirmed, every port's state is unknown, and
`probe` must name something harmless to ask for. Redirects are followed for GET on the same host only.

    webhook: {
      "relay-box": {
        address: "https://relays.lab:8443/api",
        headers: { Authorization: "Bearer {password}" },
        password_env: "RELAY_TOKEN",
        on: { path: "/relays/{port}", body: '{"on": true}' },
        off: { path: "/relays/{port}", body: '{"on": false}' },
        status: { path: "/relays/{port}", pointer: "/on" },
        ports: { "pi-05": "k1" },
      },
    }

Manual: that of the service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.http import AccountSettings, Answer, WebDevice
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.wording import Wording

Path = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=2000)]
"""Below the address, with its query, encoded."""
Headers = Mapping[
    Annotated[str, Field(pattern="^[A-Za-z0-9-]+$", max_length=100)],
    Annotated[str, Field(pattern=r"^[ -~]*$", max_length=4000)],
]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Command(BaseModel):
    """A request that switches."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path
    method: Method = "POST"
    body: Annotated[str, Field(max_length=10_000)] | None = None
    """JSON, unless a header says otherwise."""
    headers: Headers = Field(default_factory=dict)


class Question(Wording):
    """A GET that is answered with the state of a port."""

    path: Path
    headers: Headers = Field(default_factory=dict)


class Probe(BaseModel):
    """A GET that changes nothing, and is answered with a 2xx status if all is well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    headers: Headers = Field(default_factory=dict)


class WebhookSettings(AccountSettings):
    """One service."""

    on: Command
    off: Command
    status: Question | None = None
    probe: Probe | None = None
    """By default the status of the first port is asked for."""
    headers: Headers = Field(default_factory=dict)
    """Sent with every request."""

    @model_validator(mode="after")
    def _can_be_probed(self) -> WebhookSettings:
        if self.probe is None and (self.status is None or not self.ports):
            raise ValueError("needs status, or a probe: how else would we know that it is there?")
        return self


class WebhookDriver(ConfirmingDriver):
    """One service."""

    def __init__(self, settings: WebhookSettings, secrets: Secrets) -> None:
        super().__init__(
            settings.address,
            limit_s=settings.limit_s,
            confirm_s=settings.confirm_s if settings.status is not None else None,
        )
        self._settings = settings
        self._secrets = secrets
        self._web = WebDevice(settings, logins=lambda: settings.login(secrets), scheme="either")

    async def tell(self, port: str, wanted: PortState) -> None:
        command = self._settings.on if wanted is PortState.ON else self._settings.off
        answer = await self._ask(command.method, command.path, command.headers, port, command.body)
        answer.confirmed(port=port)

    async def status(self, port: str) -> PortState:
        question = self._settings.status
        if question is None:
            return PortState.UNKNOWN
        return question.read(
            (await self._ask("GET", question.path, question.headers, port)).confirmed(port=port).text
        )

    async def probe(self) -> None:
        probe = self._settings.probe
        if probe is not None:
            (await self._ask("GET", probe.path, probe.headers, "")).confirmed()
        else:
            await self.status(next(iter(self._settings.ports.values())))

    async def close(self) -> None:
        await self._web.close()

    async def _ask(
        self, method: Method, path: str, headers: Headers, port: str, body: str | None = None
    ) -> Answer:
        headers = {**self._settings.headers, **headers}
        used = any("{password}" in text for text in (path, body or "", *headers.values()))
        password = self._settings.password_from(self._secrets, self.device) if used else ""
        if body is not None:
            kind = next((text for name, text in headers.items() if name.lower() == "content-type"), None)
            if kind is None:
                headers["Content-Type"] = kind = "application/json"
            as_written = _in_json if "json" in kind else str
            body = _filled(body, as_written(port), as_written(password))
        return await self._web.request(
            method,
            _filled(path, quote(port, safe=""), quote(password, safe="")),
            headers={name: text.replace("{password}", password) for name, text in headers.items()},
            body=None if body is None else body.encode(),
            secret=password or None,
        )


def _filled(text: str, port: str, password: str) -> str:
    return text.replace("{port}", port).replace("{password}", password)


def _in_json(text: str) -> str:
    """As it stands between the quotes of a JSON text."""
    return json.dumps(text)[1:-1]


KIND = DriverKind("webhook", WebhookSettings, WebhookDriver)
