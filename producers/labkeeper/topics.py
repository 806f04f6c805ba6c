"""`labkeeper topics`: makes the topics that the lab's services read and write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import click

from pipeline.broker.protocol import TopicReport, TopicState
from pipeline.factory import open_broker
from pipeline.settings import Connections
from producers.labkeeper.home_lab import broker_options
from producers.labkeeper.output import (
    Cell,
    Column,
    Fit,
    Form,
    output_option,
    write_json,
    write_lines,
    write_table,
)
from producers.labkeeper.umbrella import GuessingGroup

_COLUMNS: Final = (
    Column("TOPIC"),
    Column("PARTITIONS", right=True),
    Column("STATE"),
    Column("WARNINGS", Fit.WRAP),
)
_STYLES: Final = {TopicState.CREATED: "green", TopicState.CHANGED: "yellow", TopicState.UNCHANGED: ""}


@click.group("topics", cls=GuessingGroup)
def command() -> None:
    """Make the topics that the lab's services read and write.

    The embedded broker makes them by itself. On Kafka and Pub/Sub, run it once before the services, and with each new
    version of Labkeeper.

    \b
      labkeeper topics create --broker kafka --kafka-servers kafka-1:9092
    """


def _partitions(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    wanted = {}
    for value in values:
        topic, _, number = value.partition("=")
        if not topic or not number.isascii() or not number.isdecimal() or not 0 < int(number) <= 10_000:
            raise click.BadParameter(f"{value!r}: expected TOPIC=NUMBER, such as machine.events=32")
        wanted[topic] = int(number)
    return wanted


@command.command("create", short_help="Create topics, and bring their settings into line.")
@click.option(
    "--partitions",
    multiple=True,
    callback=_partitions,
    metavar="TOPIC=NUMBER",
    help="Give a new topic another number of partitions: as many services of one kind can share its load. "
    "It cannot be changed afterwards. May be repeated.",
)
@output_option()
@broker_options
def create_command(place: Connections, partitions: dict[str, int], output: Form) -> None:
    """Create the topics that are missing, and bring the settings of the others into line. Deletes nothing; safe twice.

    \b
      labkeeper topics create --broker kafka --kafka-servers kafka-1:9092
      labkeeper topics create --broker kafka --partitions machine.events=32
      labkeeper topics create --broker pubsub --pubsub-project my-lab
    """
    reports = asyncio.run(_create(place, partitions))
    match output:
        case Form.JSON:
            write_json([_document(report) for report in reports])
        case Form.NAME:
            write_lines(report.name for report in reports)
        case Form.TABLE:
            write_table(_COLUMNS, [_row(report) for report in reports])


async def _create(place: Connections, partitions: dict[str, int]) -> Sequence[TopicReport]:
    async with open_broker(place) as broker:
        return await broker.create_topics(partitions=partitions)


def _row(report: TopicReport) -> tuple[str | Cell, ...]:
    state = Cell(report.state.value, _STYLES[report.state])
    return (report.name, str(report.partitions), state, "; ".join(report.warnings) or "-")


def _document(report: TopicReport) -> dict[str, object]:
    return {
        "name": report.name,
        "partitions": report.partitions,
        "state": report.state.value,
        "warnings": list(report.warnings),
    }
