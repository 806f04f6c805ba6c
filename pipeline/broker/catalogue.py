"""What every broker checks before it takes a message: that the topic exists, and that the message is fit to travel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pipeline.broker.protocol import TopicReport, TopicState
from pipeline.errors import Rejected
from schemas.topics import DEFAULT_PREFIX, TOPICS, Topic

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024


class Catalogue:
    """The topics of one lab on one broker."""

    def __init__(self, topics: Iterable[Topic] = TOPICS, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._topics: Mapping[str, Topic] = {topic.name: topic for topic in topics}
        self._prefix = prefix

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def topic(self, name: str) -> Topic:
        """The topic of that name; raises `Rejected` if there is none."""
        try:
            return self._topics[name]
        except KeyError:
            raise self.unknown(name) from None

    def unknown(self, name: str) -> Rejected:
        """The error for a topic that there is not."""
        return Rejected(f"there is no topic {name!r}; there are {', '.join(self._topics)}")

    def reports(self, have: Mapping[str, int], wanted: Mapping[str, int]) -> list[TopicReport]:
        """All topics, as a broker tells of them that made them before anybody asked.

        `have` and `wanted` map topics to their partitions. Raises `Rejected` for a wanted topic that there is not.
        """
        for name in wanted:
            self.topic(name)
        return [
            TopicReport(
                self.full_name(name),
                partitions,
                TopicState.UNCHANGED,
                partition_warnings(partitions, wanted.get(name, partitions)),
            )
            for name, partitions in have.items()
        ]

    def full_name(self, name: str) -> str:
        """The topic's name on the broker, with the lab's prefix."""
        return f"{self._prefix}.{self.topic(name).name}"


def partition_warnings(have: int, wanted: int) -> tuple[str, ...]:
    """What to tell of a topic that has another number of partitions than wanted."""
    if have == wanted:
        return ()
    warning = (
        f"has {have} partitions and keeps them, not {wanted}: with another number, messages of a machine would change "
        "their partition and could overtake each other"
    )
    return (warning,)


def check_size(size: int) -> None:
    """Raise `Rejected` if no broker of ours may take a message of so many bytes (key, headers and value)."""
    if size > MAX_MESSAGE_BYTES:
        raise Rejected(f"a message of {size} bytes is too large: {MAX_MESSAGE_BYTES} is the most")
