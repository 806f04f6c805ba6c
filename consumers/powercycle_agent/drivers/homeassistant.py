"""Whatever Home Assistant can switch, over its REST API.

For any plug, relay or PoE port that Home Assistant knows, of its releases since 2021. Create a long-lived access token in
the profile of a user of its own. Port: the entity's id, such as `switch.rack4_plug_2`.

    homeassistant: {
      "lab": {
        address: "https://homeassistant.lab:8123",
        token_file: "/etc/labkeeper/homeassistant",
        ports: { "pi-03": "switch.rack4_plug_2" },
      },
    }

What is read back is what Home Assistant believes. It believes its own command at once for entities with `assumed_state`
and for those set to be optimistic: do not use such. An entity that is `unavailable` is unknown to us.

Manual: https://developers.home-assistant.io/docs/api/rest/
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator, model_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.http import Answer, WebDevice, WebSettings
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets

_STATES: Final = {"on": PortState.ON, "off": PortState.OFF}


class HomeAssistantSettings(WebSettings):
    """One Home Assistant."""

    token: SecretStr | None = None
    """Long-lived access token; better kept in a file or in the environment."""
    token_file: str | None = None
    token_env: str | None = None
    """Name of the environment variable."""
    domain: Annotated[str, Field(pattern="^[a-z_]+$")] = "homeassistant"
    """Of the services `turn_on` and `turn_off`; `homeassistant` takes all kinds of entities."""

    @field_validator("ports")
    @classmethod
    def _are_entities(cls, ports: dict[str, str]) -> dict[str, str]:
        for machine_id, port in ports.items():
            if not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", port):
                raise ValueError(
                    f"port {port!r} of {machine_id} is no entity's id, such as switch.rack4_plug_2"
                )
        return ports

    @model_validator(mode="after")
    def _has_a_token(self) -> HomeAssistantSettings:
        if not (self.token or self.token_file or self.token_env):
            raise ValueError("needs a token: name a file with token_file, or a variable with token_env")
        return self


class HomeAssistantDriver(ConfirmingDriver):
    """One Home Assistant."""

    def __init__(self, settings: HomeAssistantSettings, secrets: Secrets) -> None:
        super().__init__(settings.address, limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings
        self._secrets = secrets
        self._web = WebDevice(settings)

    async def tell(self, port: str, wanted: PortState) -> None:
        await self.status(port)  # knows the port; the service answers 200 for an unknown entity, too
        service = f"/api/services/{self._settings.domain}/turn_{wanted.value}"
        (await self._ask("POST", service, {"entity_id": port})).confirmed()

    async def status(self, port: str) -> PortState:
        answer = (await self._ask("GET", f"/api/states/{port}")).confirmed(port=port).json_object()
        return _STATES.get(str(answer.get("state")), PortState.UNKNOWN)

    async def probe(self) -> None:
        (await self._ask("GET", "/api/")).confirmed().json_object()

    async def close(self) -> None:
        await self._web.close()

    async def _ask(self, method: str, path: str, document: dict[str, str] | None = None) -> Answer:
        given = self._settings.token.get_secret_value() if self._settings.token else None
        token = self._secrets.password(
            given=given,
            file=self._settings.token_file,
            variable=self._settings.token_env,
            what=f"Home Assistant at {self.device}",
        )
        headers = {"Authorization": f"Bearer {token}"}
        return await self._web.request(method, path, headers=headers, document=document)


KIND = DriverKind("homeassistant", HomeAssistantSettings, HomeAssistantDriver)
