"""What is said when a cluster cannot be reached, and what becomes of aiokafka's own words."""

from __future__ import annotations

import logging

import pytest
from structlog.testing import capture_logs

from infra.servers.child import free_ports
from pipeline.broker.kafka import KafkaBroker
from pipeline.broker.kafka_client import route_library_log
from pipeline.command import ExitCode, exit_code_of
from pipeline.errors import BrokerUnavailable, Misconfigured, TurnedAway
from pipeline.settings import KafkaSettings


@pytest.fixture
def library() -> logging.Logger:
    """As if nothing had been logged before."""
    found = logging.getLogger("aiokafka")
    found.handlers.clear()
    route_library_log()
    return found


async def test_a_wrong_address_is_told_once_with_what_sets_it(library: logging.Logger) -> None:
    broker = KafkaBroker(KafkaSettings((f"127.0.0.1:{free_ports(1)[0]}",)))
    with capture_logs() as lines, pytest.raises(BrokerUnavailable, match="LABKEEPER_KAFKA_SERVERS"):
        await broker.check()
    await broker.close()

    assert library.handlers
    assert lines == []


def test_of_the_ways_to_say_that_a_node_is_away_one_is_told(library: logging.Logger) -> None:
    with capture_logs() as lines:
        library.error("Unable connect to node with id %s: %s", 1, "refused")
        library.error("Unable to update metadata from %s", [1])
        library.warning("Something %s", "else")

    assert [line["text"] for line in lines] == ["Unable connect to node with id 1: refused", "Something else"]


def test_a_group_that_is_rearranged_is_no_warning(library: logging.Logger) -> None:
    with capture_logs() as lines:
        library.warning("Heartbeat failed for group %s because it is rebalancing", "writers")

    assert [line["log_level"] for line in lines] == ["debug"]


def test_who_is_turned_away_is_told_so_by_the_exit_code() -> None:
    assert exit_code_of(TurnedAway("check the password")) is ExitCode.DENIED
    assert exit_code_of(Misconfigured("check the file")) is ExitCode.USAGE
