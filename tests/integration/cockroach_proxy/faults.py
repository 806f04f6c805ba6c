"""What can go wrong between a client and CockroachDB, at which statement it can, and who decides when it does."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from tests.integration.cockroach_proxy.wire import Status


class Fault(Enum):
    """One thing that goes wrong. Whatever the client is told is true of the real server behind the proxy."""

    RETRY = "40001: the transaction must be restarted"
    RETRY_AFTER_ROWS = "40001 when part of the rows had been sent"
    AMBIGUOUS_DONE = "40003: the result is ambiguous, and it has taken effect"
    AMBIGUOUS_UNDONE = "40003: the result is ambiguous, and it has not taken effect"
    DRAINED = "57P01: the node is shutting down, the transaction is rolled back"
    DRAINED_DONE = "57P01: the node is shutting down, and the statement has taken effect"
    STARTING = "57P03: the node is not up yet"
    RESET_BEFORE = "connection reset before the statement reached the server"
    RESET_AFTER = "connection reset when the statement had been executed"
    RESET_LATE = "connection reset while the statement was under way; it arrives later"
    CUT_MIDWAY = "connection closed in the middle of the answer"
    SILENT_BEFORE = "no answer for ever; the statement never reached the server"
    SILENT_AFTER = "no answer for ever; the statement has been executed"
    SLOW = "the answer takes its time"
    RESTART = "the node ends at once, and refuses connections until it is up again"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a client is about to do: connect, or have the server execute a text."""

    text: str
    status: bytes
    """Of the session, before it."""
    is_connect: bool = False

    @property
    def is_commit(self) -> bool:
        """Whether it ends a transaction that has a chance of being kept."""
        return self.text == "COMMIT" and self.status == Status.IN_TRANSACTION

    @property
    def is_rollback(self) -> bool:
        """Whether it gives a transaction up."""
        return self.text == "ROLLBACK"

    @property
    def is_begin(self) -> bool:
        """Whether it opens a transaction."""
        return self.text.startswith("BEGIN")

    @property
    def commits(self) -> bool:
        """Whether something may have taken effect for good when it is over."""
        alone = self.status == Status.IDLE and not (self.is_connect or self.is_begin or self.is_rollback)
        return self.is_commit or alone

    @property
    def gives_rows(self) -> bool:
        """Whether rows may come before the statement fails."""
        return self.text.startswith("SELECT")


_AT_CONNECT: Final = (Fault.DRAINED, Fault.STARTING, Fault.RESET_BEFORE, Fault.SILENT_BEFORE, Fault.RESTART)
_AT_COMMIT_ONLY: Final = (Fault.AMBIGUOUS_DONE, Fault.AMBIGUOUS_UNDONE)


def is_possible(fault: Fault, statement: Statement) -> bool:
    """Whether CockroachDB, or the network, may do that to this statement."""
    if statement.is_connect:
        return fault in _AT_CONNECT or fault is Fault.SLOW
    if fault is Fault.STARTING:
        return False
    if fault in _AT_COMMIT_ONLY:
        return statement.commits
    if fault in (Fault.RETRY, Fault.RETRY_AFTER_ROWS):
        has_chance = statement.status != Status.ABORTED and not statement.is_rollback
        return has_chance and (fault is Fault.RETRY or statement.gives_rows)
    return True


class Plan(Protocol):
    """Decides what goes wrong."""

    def choose(self, statement: Statement) -> Fault | None:
        """What happens to this statement; None: all goes well. Asked once for each, by one thread."""
        ...

    def share(self) -> float:
        """How much of an answer gets through before it is cut off: from 0 to below 1."""
        ...


class Peace:
    """Nothing goes wrong, and everything is written down."""

    def __init__(self) -> None:
        self.seen: list[Statement] = []

    def choose(self, statement: Statement) -> Fault | None:
        """See the protocol."""
        self.seen.append(statement)
        return None

    def share(self) -> float:
        """See the protocol."""
        raise AssertionError("nothing is cut off in peace")


class Script:
    """Statements that go wrong, by their number from now on; where a fault is not possible, all goes well."""

    def __init__(self, faults: Mapping[int, Fault], *, share: float = 0.5) -> None:
        self._faults = faults
        self._share = share
        self._number = 0

    def choose(self, statement: Statement) -> Fault | None:
        """See the protocol."""
        fault = self._faults.get(self._number)
        self._number += 1
        return fault if fault is not None and is_possible(fault, statement) else None

    def share(self) -> float:
        """See the protocol."""
        return self._share


class CommitsLost:
    """So many COMMITs in a row meet a fault, and then the statements after them, by number, may meet others."""

    def __init__(self, fault: Fault, count: int = 1, *, then: Plan | None = None) -> None:
        self._fault = fault
        self._left = count
        self._then = Peace() if then is None else then

    def choose(self, statement: Statement) -> Fault | None:
        """See the protocol."""
        if self._left == 0:
            return self._then.choose(statement)
        if not statement.is_commit:
            return None
        self._left -= 1
        return self._fault

    def share(self) -> float:
        """See the protocol."""
        return 0.5


class Deck:
    """Faults at random, in numbers that are certain: so many of each kind among so many statements, shuffled.

    A fault that cannot befall the statement at hand waits for the next one that it can, and the statement goes on to
    the card behind it.
    """

    def __init__(self, faults: Mapping[Fault, int], *, statements: int, seed: int) -> None:
        """`faults` says how many of each lie in a deck of `statements` cards. Used up, it is shuffled anew."""
        dealt = Counter(faults)
        self._cards: list[Fault | None] = [*dealt.elements(), *[None] * (statements - dealt.total())]
        self._chance = random.Random(seed)
        self._deck: deque[Fault | None] = deque()

    def choose(self, statement: Statement) -> Fault | None:
        """See the protocol."""
        kept: list[Fault | None] = []
        while True:
            if not self._deck:
                self._chance.shuffle(self._cards)
                self._deck.extend(self._cards)
            card = self._deck.popleft()
            if card is None or is_possible(card, statement):
                self._deck.extendleft(reversed(kept))
                return card
            kept.append(card)

    def share(self) -> float:
        """See the protocol."""
        return self._chance.random()
