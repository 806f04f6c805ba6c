"""The notifier's file, JSON5: which channels there are, and what is told where.

    {
      channels: {
        phones: {slack: {url_file: "/etc/labkeeper/slack-url"}},
        tickets: {webhook: {url: "https://tickets.example/hook", secret_env: "HOOK_SECRET"}},
        mail: {email: {to: ["lab@example.com"], from: "labkeeper@example.com", server: "smtp.example.com:587"}},
      },
      routes: [
        {pools: ["Phones"], channels: ["phones"]},
        {pools: ["*"], kinds: ["gave_up", "controller"], channels: ["mail", "tickets"]},
      ],
      quiet_s: 30, longest_s: 180,
    }

Every route that matches counts. Secrets stand in files or in the environment, not in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from consumers.notifier.notices import Notice, NoticeKind
from pipeline.errors import Misconfigured
from pipeline.json5_file import read_json5
from schemas.wire import Body, faults, in_plain_words

_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)]


class _Entry(Body):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Secret(_Entry):
    """Where a secret stands: in a file or in a variable of the environment."""

    file: Path | None = None
    variable: str | None = None

    def read(self, environment: Mapping[str, str], what: str) -> str:
        """What it is now. Raises `Misconfigured`."""
        if self.file is not None:
            try:
                secret = self.file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Misconfigured(f"cannot read {what} from {self.file}: {error}") from error
        else:
            secret = environment.get(self.variable or "", "").strip()
        if not secret:
            raise Misconfigured(f"{what} is empty: put it into {self.file or self.variable}")
        return secret


class Webhook(_Entry):
    """POST of a JSON document."""

    url: _Url
    secret_file: Path | None = None
    """Key of the signature (HMAC-SHA256)."""
    secret_env: str | None = None

    @model_validator(mode="after")
    def _has_secret(self) -> Self:
        if self.secret_file is None and self.secret_env is None:
            raise ValueError(
                "a webhook needs secret_file or secret_env: receivers must be able to tell us from others"
            )
        return self

    @property
    def secret(self) -> Secret:
        """Where the key is."""
        return Secret(file=self.secret_file, variable=self.secret_env)


class Slack(_Entry):
    """An incoming webhook of Slack, Mattermost, Rocket.Chat or Discord (with `/slack`). Its URL is a secret."""

    url_file: Path | None = None
    url_env: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_plain_url(cls, entry: Any) -> Any:
        if isinstance(entry, dict) and "url" in entry:
            raise ValueError("use url_file or url_env in place of url: whoever knows the URL can post")
        return entry

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if self.url_file is None and self.url_env is None:
            raise ValueError("needs url_file or url_env: whoever knows the URL can post")
        return self

    @property
    def url(self) -> Secret:
        """Where the URL is."""
        return Secret(file=self.url_file, variable=self.url_env)


class Email(_Entry):
    """Mail over SMTP."""

    to: Annotated[
        list[Annotated[str, Field(pattern=r"^[^@\s,]+@[^@\s,]+$")]], Field(min_length=1, max_length=50)
    ]
    sender: Annotated[str, Field(alias="from", pattern=r"^[^@\s,]+@[^@\s,]+$")]
    server: Annotated[str, Field(pattern=r"^[^\s:]+:\d{1,5}$")]
    """`host:port`."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_file: Path | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _has_password(self) -> Self:
        if self.user is not None and self.password_file is None and self.password_env is None:
            raise ValueError("a user needs password_file or password_env")
        if self.user is not None and self.security == "none":
            raise ValueError("a password must not travel in the clear: use starttls or tls")
        return self

    @property
    def password(self) -> Secret:
        """Where the password is."""
        return Secret(file=self.password_file, variable=self.password_env)


class ChannelEntry(_Entry):
    """One channel: exactly one of the three."""

    webhook: Webhook | None = None
    slack: Slack | None = None
    email: Email | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(each is not None for each in (self.webhook, self.slack, self.email)) != 1:
            raise ValueError("say one of webhook, slack and email")
        return self


class Route(_Entry):
    """What is told where."""

    pools: Annotated[list[_Name], Field(min_length=1)] = Field(default_factory=lambda: ["*"])
    """Patterns; `*` stands for anything."""
    kinds: Annotated[list[NoticeKind], Field(min_length=1)] = Field(default_factory=lambda: list(NoticeKind))
    channels: Annotated[list[_Name], Field(min_length=1)]

    def takes(self, notice: Notice) -> bool:
        """Whether the notice is for this route. A machine without a pool matches `*` alone."""
        if notice.kind not in self.kinds:
            return False
        return any(fnmatchcase(pool, pattern) for pool in notice.pools or ("",) for pattern in self.pools)


class Configuration(_Entry):
    """The whole file."""

    channels: Annotated[dict[_Name, ChannelEntry], Field(min_length=1)]
    routes: Annotated[list[Route], Field(min_length=1)]
    quiet_s: Annotated[float, Field(ge=1, le=3600)] = 30
    """A group is sent when nothing was added to it for so long. Machines that are lost together fall silent within one
    reporting period of one another, which is 30 s."""
    longest_s: Annotated[float, Field(ge=1, le=3600)] = 180
    """A group is sent so long after its first notice at the latest."""
    page: str | None = None
    """Address of the façade, for links."""

    @model_validator(mode="after")
    def _knows_channels(self) -> Self:
        for number, route in enumerate(self.routes):
            for name in route.channels:
                if name not in self.channels:
                    known = ", ".join(self.channels)
                    raise ValueError(f"routes.{number}: there is no channel {name!r}; there are {known}")
        return self

    def channels_for(self, notice: Notice) -> Sequence[str]:
        """Where it is to be told, each channel once."""
        return list(
            dict.fromkeys(name for route in self.routes if route.takes(notice) for name in route.channels)
        )


def read_configuration(path: Path) -> Configuration:
    """Read the file. Raises `Misconfigured`, naming file and key."""
    content = read_json5(path)
    try:
        return Configuration.model_validate(content)
    except ValidationError as error:
        told = "; ".join(f"{field}: {in_plain_words(message)}" for field, message in faults(error))
        raise Misconfigured(f"{path}: {told}") from error


def check_file(path: Path) -> None:
    """Raises `Misconfigured` when the notifier would not begin with this file."""
    read_configuration(path)
