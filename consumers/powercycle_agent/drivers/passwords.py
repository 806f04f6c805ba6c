"""The keys of an entry that say where a password comes from: the same for every kind that has one."""

from __future__ import annotations

from pydantic import SecretStr

from consumers.powercycle_agent.drivers.limits import LimitedSettings
from consumers.powercycle_agent.drivers.secrets import Secrets


class PasswordSettings(LimitedSettings):
    """A controller whose device may want a password."""

    password: SecretStr | None = None
    """Better kept in a file or in the environment."""
    password_file: str | None = None
    """File whose content is the password."""
    password_env: str | None = None
    """Name of the environment variable; by default `POWERCYCLE_PASSWORD`, where a password is needed."""

    @property
    def names_a_password(self) -> bool:
        """Whether the entry says where a password comes from."""
        return bool(self.password or self.password_file or self.password_env)

    def password_from(self, secrets: Secrets, what: str) -> str:
        """The password, as it is now; errors call it that of `what`. Raises `TurnedAway` when there is none."""
        return secrets.password(
            given=self.password.get_secret_value() if self.password else None,
            file=self.password_file,
            variable=self.password_env,
            what=what,
        )
