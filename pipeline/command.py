"""What every command line shares: the options, the exit codes, and how an error is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pipeline.broker.kafka_config import parse_servers, read_config
from pipeline.errors import (
    LabkeeperError,
    MachineNotFound,
    Misconfigured,
    Retryable,
    TooManyRejects,
    TurnedAway,
)
from pipeline.facade_access import TOKEN_VARIABLE
from pipeline.processor.pools import Pools
from pipeline.settings import (
    BrokerKind,
    Connections,
    KafkaSettings,
    LogFormat,
    PubsubSettings,
    ServiceSettings,
)
from schemas.topics import DEFAULT_PREFIX, check_prefix

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class ExitCode(IntEnum):
    """What a command's exit code means, the same for every command. Told in `labkeeper --help` and docs/operations.md."""

    OK = 0
    FAILED = 1
    """It could not be done, or not all of it, for a reason that has no code of its own."""
    USAGE = 2
    """What was typed is wrong, or a setting, a file of settings or the environment is: it ends so again until that is changed."""
    NOT_FOUND = 3
    DENIED = 4
    """Who we say we are may not do this, or nobody believes it."""
    CONFLICT = 5
    """It goes against the state of things: somebody else's command, another version, a database that does not fit."""
    TIMED_OUT = 6
    UNREACHABLE = 7
    """A façade, database or broker is away: the same may work in a moment."""


class CommandFailed(LabkeeperError):
    """A command could not do what was asked; the text is for the person who typed it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def run(command: click.Command, argv: Sequence[str] | None = None, *, name: str | None = None) -> NoReturn:
    """Run a command line to its end and exit. A user's mistake is one sentence on standard error, not a traceback."""
    try:
        code = command.main(args=argv, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        _fail("aborted", 130)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    except LabkeeperError as error:
        _fail(str(error), exit_code_of(error))
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def exit_code_of(error: LabkeeperError) -> ExitCode:
    """The exit code that tells a script what went wrong."""
    if isinstance(error, CommandFailed):
        return error.code
    if isinstance(error, MachineNotFound):
        return ExitCode.NOT_FOUND
    if isinstance(error, TooManyRejects):
        return ExitCode.CONFLICT
    if isinstance(error, TurnedAway):
        return ExitCode.DENIED
    if isinstance(error, Misconfigured):
        return ExitCode.USAGE
    return ExitCode.UNREACHABLE if isinstance(error, Retryable) else ExitCode.FAILED


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"labkeeper: {text}", err=True)
    sys.exit(code)


pool_option = click.option(
    "--pool",
    envvar="LABKEEPER_POOLS",
    multiple=True,
    default=("Lab=",),
    metavar="NAME=REGEX",
    show_envvar=True,
    help="Machines whose id matches belong to this pool; may be repeated, the first match counts. The same for "
    "every service of a lab.  [default: all in one pool, Lab]",
)


def _topic_prefix(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        return check_prefix(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error


_TOPIC_PREFIX = click.option(
    "--topic-prefix",
    callback=_topic_prefix,
    envvar="LABKEEPER_TOPIC_PREFIX",
    default=DEFAULT_PREFIX,
    show_default=True,
    show_envvar=True,
    help="First part of every topic's name; separates labs that share a broker.",
)
_BROKER = click.option(
    "--broker",
    envvar="LABKEEPER_BROKER",
    type=click.Choice([kind.value for kind in BrokerKind]),
    default=BrokerKind.EMBEDDED.value,
    show_default=True,
    show_envvar=True,
    help="What carries the topics; `embedded` keeps them in the database.",
)
_KAFKA_SERVERS = click.option(
    "--kafka-servers",
    envvar="LABKEEPER_KAFKA_SERVERS",
    metavar="HOST:PORT,...",
    show_envvar=True,
    help="With --broker kafka: some of the cluster's brokers.  [default: localhost:9092]",
)
_KAFKA_CONFIG = click.option(
    "--kafka-config",
    envvar="LABKEEPER_KAFKA_CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_envvar=True,
    help="With --broker kafka: a file of properties, as kcat and librdkafka read them, for TLS and SASL.",
)
_PUBSUB_PROJECT = click.option(
    "--pubsub-project",
    envvar=["LABKEEPER_PUBSUB_PROJECT", "GOOGLE_CLOUD_PROJECT"],
    metavar="ID",
    show_envvar=True,
    help="With --broker pubsub: the Google Cloud project that the topics are in.",
)
_PUBSUB_EMULATOR = click.option(
    "--pubsub-emulator",
    envvar="PUBSUB_EMULATOR_HOST",
    metavar="HOST:PORT",
    show_envvar=True,
    help="With --broker pubsub: an emulator to use in Google's place.",
)
_BROKER_OPTIONS = (_TOPIC_PREFIX, _PUBSUB_EMULATOR, _PUBSUB_PROJECT, _KAFKA_CONFIG, _KAFKA_SERVERS, _BROKER)
_CONNECTION_NAMES = (
    "database_url",
    "broker",
    "kafka_servers",
    "kafka_config",
    "pubsub_project",
    "pubsub_emulator",
    "topic_prefix",
)


def _pool_periods(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, timedelta]:
    periods = {}
    for value in values:
        pool, _, seconds = value.partition("=")
        try:
            periods[pool] = timedelta(seconds=float(seconds))
        except (ValueError, OverflowError):
            raise click.BadParameter(f"{value!r}: expected POOL=SECONDS, such as Skia=60") from None
        if not pool or periods[pool] <= timedelta(0):
            raise click.BadParameter(
                f"{value!r}: expected POOL=SECONDS with more than 0 seconds, such as Skia=60"
            )
    return periods


pool_period_option = click.option(
    "--pool-period",
    multiple=True,
    callback=_pool_periods,
    metavar="POOL=SECONDS",
    help="The same for one pool.",
)
"""Goes with a `--period`. The command gets a dict of pool to timedelta."""


def database_option(*, required: bool) -> Callable[[Decorated], Decorated]:
    """The option that says where the store is; the command gets it as `database_url`."""
    return click.option(
        "--database-url",
        envvar="LABKEEPER_DATABASE_URL",
        required=required,
        show_envvar=True,
        help="PostgreSQL 16 or newer, such as postgresql://user@host/labkeeper. "
        "Give a password through the environment or ~/.pgpass, not on the command line.",
    )


def connection_options(function: Decorated, *, needs_database: bool = True) -> Decorated:
    """Add the options that say where store and broker are; `settings` makes them into settings."""
    for option in (pool_option, *_BROKER_OPTIONS, database_option(required=needs_database)):
        function = option(function)
    return function


def publishing_options(function: Decorated) -> Decorated:
    """Add the options that say where the broker is, for those that need no store; `take_connections` gets them back."""
    for option in (*_BROKER_OPTIONS, database_option(required=False)):
        function = option(function)
    return function


def take_connections(options: dict[str, Any]) -> Connections | None:
    """Take the options of `publishing_options` out of `options`. None: no broker was named."""
    mine = {name: options.pop(name) for name in _CONNECTION_NAMES}
    if mine["broker"] == BrokerKind.EMBEDDED and not mine["database_url"]:
        return None
    return _connections(**mine)


def _connections(
    *,
    database_url: str | None,
    broker: str,
    kafka_servers: str | None,
    kafka_config: Path | None,
    pubsub_project: str | None,
    pubsub_emulator: str | None,
    topic_prefix: str,
    pool: tuple[str, ...] = (),
) -> Connections:
    kind = BrokerKind(broker)
    if kind is BrokerKind.PUBSUB and not pubsub_project:
        raise click.UsageError("--broker pubsub needs --pubsub-project, the id of a Google Cloud project")
    return Connections(
        database_url or "",
        kind,
        topic_prefix,
        pools_of(pool),
        kafka=_kafka(kafka_servers, kafka_config) if kind is BrokerKind.KAFKA else KafkaSettings(),
        pubsub=PubsubSettings(pubsub_project or "", pubsub_emulator or None),
    )


def _kafka(servers: str | None, config: Path | None) -> KafkaSettings:
    given = (servers,) if servers else ()
    if config is not None:
        return read_config(config, servers=given)
    return KafkaSettings(parse_servers(given)) if given else KafkaSettings()


def pools_of(texts: Sequence[str]) -> Pools:
    """Pools from the values of `pool_option`."""
    try:
        return Pools([_pool(text) for text in texts])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--pool") from error


def _pool(text: str) -> tuple[str, str]:
    name, equals, regex = text.partition("=")
    if not equals:
        raise click.BadParameter(
            f"{text!r}: expected NAME=REGEX, such as Phones=^phone-", param_hint="--pool"
        )
    return name, regex


def settings(options: dict[str, Any]) -> tuple[Connections, ServiceSettings]:
    """Settings from the options of `connection_options` and `service_options` together."""
    service = {name: options[name] for name in ("metrics_port", "metrics_host", "log_format", "log_level")}
    rest = {name: value for name, value in options.items() if name not in service}
    return _connections(**rest), service_settings(**service)


def url_option(what: str, *, default: str | None = None) -> Callable[[Decorated], Decorated]:
    """The option that says where the façade is; `what` is its help. The command gets `url`."""
    return click.option(
        "--url",
        envvar="LABKEEPER_URL",
        default=default,
        show_default=default is not None,
        show_envvar=True,
        metavar="URL",
        help=what,
    )


def token_file_option(what: str) -> Callable[[Decorated], Decorated]:
    """The option for a file with a token, for those that talk to a façade; `what` begins its help. The command gets `token_file`."""
    return click.option(
        "--token-file",
        envvar="LABKEEPER_TOKEN_FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        show_envvar=True,
        help=f"{what} Or put the token itself into {TOKEN_VARIABLE}.",
    )


def service_options(function: Decorated) -> Decorated:
    """Add the options of a long-running process; `service_settings(**kwargs)` makes them into settings."""
    for option in (
        click.option(
            "--log-level",
            envvar="LABKEEPER_LOG_LEVEL",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            show_default=True,
            show_envvar=True,
            help="Least severity that is logged.",
        ),
        click.option(
            "--log-format",
            envvar="LABKEEPER_LOG_FORMAT",
            type=click.Choice([kind.value for kind in LogFormat]),
            default=LogFormat.AUTO.value,
            show_default=True,
            show_envvar=True,
            help="`auto` is console on a terminal and json elsewhere.",
        ),
        click.option(
            "--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve metrics on."
        ),
        click.option(
            "--metrics-port",
            type=int,
            help="Serve Prometheus metrics, and /healthz, on this port.  [default: do not]",
        ),
    ):
        function = option(function)
    return function


def service_settings(
    *, metrics_port: int | None, metrics_host: str, log_format: str, log_level: str
) -> ServiceSettings:
    """Settings from the options of `service_options`."""
    return ServiceSettings(
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        log_format=LogFormat(log_format),
        log_level=log_level,
    )
