from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing, Received
from pipeline.clock import ManualClock
from pipeline.command import CommandFailed, ExitCode
from producers.labkeeper.dead_letter_office import WITH_LETTERS, DeadLetterOffice
from producers.labkeeper.dead_letters import Ledger, Letter, Name, is_marker, letter_of, original
from schemas import envelope
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS, POWER_COMMANDS, POWER_RESULTS
from tests.unit.producers.labkeeper.fleet import T0

HEADERS = {envelope.ID: "01J", "x-from": "old client", envelope.DEAD_HANDLED: "0:0"}


class Lab:
    """A broker with a consumer that parks everything, and an operator."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.broker = MemoryBroker(clock=self.clock)
        self.office = DeadLetterOffice(self.broker, self.clock, who="ada@desk")
        self._consumer = DeadLetters(self.broker, self.clock)
        self.done: list[str] = []

    async def park(
        self,
        key: str,
        value: bytes,
        reason: str,
        topic: str = MACHINE_EVENTS,
        headers: Mapping[str, str] = HEADERS,
    ) -> None:
        read = Received(topic, 3, 41, key, value, headers, self.clock.now())
        await self._consumer.put([(read, reason)])
        self.clock.advance(timedelta(minutes=1))

    async def replay(self, *letters: Letter) -> None:
        await self.office.replay(letters, self._say)

    async def drop(self, *letters: Letter) -> None:
        await self.office.drop(letters, self._say)

    def _say(self, letter: Letter) -> None:
        self.done.append(str(letter.name))

    async def open(self) -> list[Letter]:
        return [letter for letter in await self.office.letters() if letter.handled is None]

    async def published(self, topic: str) -> list[Received]:
        return list(await self.broker.fetch(topic, limit=10_000))


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_a_parked_message_is_a_letter_with_reason_place_and_time(lab: Lab) -> None:
    await lab.park("m", b"nonsense", "body: not JSON")

    [letter] = await lab.open()

    assert (str(letter.name), letter.key, letter.reason) == ("0:0", "m", "body: not JSON")
    assert (letter.source, letter.died_at, letter.size) == ("machine.events/3:41", T0, 8)


async def test_a_replay_publishes_the_message_as_it_was_and_closes_the_letter(lab: Lab) -> None:
    await lab.park("m", b"\x00\xff", "what is this?")

    await lab.replay(*await lab.open())

    [again] = await lab.published(MACHINE_EVENTS)
    assert (again.key, again.value, dict(again.headers)) == ("m", b"\x00\xff", HEADERS)
    assert await lab.open() == []
    [letter] = await lab.office.letters()
    assert letter.handled is not None
    assert (letter.handled.outcome, letter.handled.who) == ("replayed", "ada@desk")
    assert letter.handled.at == T0 + timedelta(minutes=1)
    assert lab.done == ["0:0"]


async def test_a_dropped_letter_is_closed_and_goes_nowhere(lab: Lab) -> None:
    await lab.park("a", b"1", "no")
    await lab.park("b", b"2", "no")
    first, second = await lab.open()

    await lab.drop(first)

    assert await lab.open() == [second]
    assert await lab.published(MACHINE_EVENTS) == []


async def test_letters_of_several_topics_go_back_where_they_came_from_in_their_order(lab: Lab) -> None:
    for number in range(3):
        await lab.park("m", b"event %d" % number, "no")
        await lab.park("m", b"change %d" % number, "no", MACHINE_CHANGES)
    letters = await lab.open()
    assert [str(letter.name) for letter in letters] == [
        *("0:0", "0:1", "0:2"),
        *("machine.changes/0:0", "machine.changes/0:1", "machine.changes/0:2"),
    ]

    await lab.replay(*(letter for letter in letters if letter.name.offset != 1))

    assert [message.value for message in await lab.published(MACHINE_EVENTS)] == [b"event 0", b"event 2"]
    assert [message.value for message in await lab.published(MACHINE_CHANGES)] == [b"change 0", b"change 2"]
    assert [letter.name.offset for letter in await lab.open()] == [1, 1]


async def test_a_replayed_message_that_dies_again_is_a_new_letter(lab: Lab) -> None:
    await lab.park("m", b"x", "no")
    await lab.replay(*await lab.open())
    [again] = await lab.published(MACHINE_EVENTS)

    await lab.park(again.key, again.value, "still no", headers=again.headers)

    assert [letter.reason for letter in await lab.open()] == ["still no"]


async def test_thousands_of_letters_are_all_found_and_replayed(lab: Lab) -> None:
    for number in range(1050):
        await lab.park(f"m-{number % 7}", b"%d" % number, "no")

    await lab.replay(*await lab.open())

    values = {int(message.value) for message in await lab.published(MACHINE_EVENTS)}
    assert values == set(range(1050))
    assert await lab.open() == []


async def test_a_letter_is_fetched_by_its_name(lab: Lab) -> None:
    for number in range(3):
        await lab.park("m", b"%d" % number, "no")

    assert (await lab.office.message(Name(MACHINE_EVENTS, 0, 1))).value == b"1"


@pytest.mark.parametrize(
    "name", ["0:1", "0:99", "7:0", "machine.changes/0:0", "machine.events.dead/0:0", "no.such/0:0"]
)
async def test_a_name_without_letter_is_not_found(lab: Lab, name: str) -> None:
    await lab.park("m", b"x", "no")
    await lab.drop(*await lab.open())  # 0:1 is the marker

    with pytest.raises(CommandFailed, match="there is no dead letter") as failed:
        await lab.office.message(Name.parse(name))

    assert failed.value.code is ExitCode.NOT_FOUND


@pytest.mark.parametrize("name", [Name(MACHINE_EVENTS, 0, 17), Name(MACHINE_CHANGES, 2, 0)])
def test_a_name_reads_as_it_is_written(name: Name) -> None:
    assert Name.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "17", "0:-1", "a:b", "0:17 ", "../0:1", "x/y/0:1", "0:" + "9" * 40])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no dead letter"):
        Name.parse(text)


def _received(headers: Mapping[str, str]) -> Received:
    return Received("machine.events.dead", 0, 5, "m", b"", headers, T0)


def test_a_producer_cannot_forge_a_marker_by_its_headers() -> None:
    assert not is_marker(_received({envelope.DEAD_HANDLED: "0:1", envelope.DEAD_REASON: "no"}))
    assert is_marker(_received({envelope.DEAD_HANDLED: "0:1"}))


def test_a_letter_that_something_else_parked_has_what_there_is() -> None:
    letter = letter_of(_received({envelope.DEAD_TIME: "yesterday"}))

    assert (letter.reason, letter.source, letter.died_at) == ("not told", "", T0)


def test_a_marker_that_makes_no_sense_closes_nothing() -> None:
    ledger = Ledger(MACHINE_EVENTS)

    ledger.add([_received({}), _received({envelope.DEAD_HANDLED: "everything"})])

    assert [letter.handled for letter in ledger.letters()] == [None]


def test_only_what_parking_added_is_taken_off_again() -> None:
    parked: dict[str, str] = dict.fromkeys(
        (
            envelope.DEAD_REASON,
            envelope.DEAD_TOPIC,
            envelope.DEAD_PARTITION,
            envelope.DEAD_OFFSET,
            envelope.DEAD_TIME,
        ),
        "x",
    )

    assert original(_received({**HEADERS, **parked})) == Outgoing(MACHINE_EVENTS, "m", b"", HEADERS)


def test_every_topic_that_has_dead_letters_is_looked_at() -> None:
    assert set(WITH_LETTERS) == {MACHINE_EVENTS, MACHINE_CHANGES, POWER_COMMANDS, POWER_RESULTS}
