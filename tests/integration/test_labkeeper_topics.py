"""`labkeeper topics`, on the broker that needs nothing set up; the brokers' own tests create topics for real."""

from __future__ import annotations

import pytest

from schemas.topics import TOPICS
from tests.unit.producers.labkeeper.command_line import labkeeper

pytestmark = pytest.mark.integration


def test_topics_are_there_after_create_and_a_second_time_nothing_happens(database_url: str) -> None:
    for _ in range(2):
        result = labkeeper("topics", "create", "-o", "json", LABKEEPER_DATABASE_URL=database_url)
        assert result.code == 0, result.err
        assert {report["name"] for report in result.json} == {f"labkeeper.{topic.name}" for topic in TOPICS}
        assert {report["state"] for report in result.json} == {"unchanged"}


def test_a_topic_that_cannot_have_another_number_of_partitions_is_warned_about(database_url: str) -> None:
    result = labkeeper(
        "topics", "create", "--partitions", "machine.events=9", LABKEEPER_DATABASE_URL=database_url
    )
    assert result.code == 0, result.err
    (warned,) = [line for line in result.lines if "keeps them" in line]
    assert warned.startswith("labkeeper.machine.events ")


@pytest.mark.parametrize(
    ("partitions", "told"),
    [
        ("machine.events", "expected TOPIC=NUMBER"),
        ("machine.events=0", "expected TOPIC=NUMBER"),
        ("machine.events=many", "expected TOPIC=NUMBER"),
        ("machine.evnts=4", "there is no topic 'machine.evnts'; there are machine.events,"),
    ],
)
def test_a_mistake_in_the_partitions_is_told(database_url: str, partitions: str, told: str) -> None:
    result = labkeeper("topics", "create", "--partitions", partitions, LABKEEPER_DATABASE_URL=database_url)
    assert result.code != 0
    assert told in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("prefix", ["", "bad prefix!", "1lab", "x" * 101, "lab/2"])
def test_a_prefix_that_some_broker_would_not_take_is_refused(prefix: str) -> None:
    result = labkeeper(
        "topics", "create", "--topic-prefix", prefix, LABKEEPER_DATABASE_URL="postgresql:///none"
    )
    assert result.code == 2
    assert "a prefix has 1 to 100 letters" in result.err
