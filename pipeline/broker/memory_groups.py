"""Groups of the memory broker: who reads which partition, and how far the group has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.broker.partitions import fair_share
from pipeline.errors import LeaseLost


class Waker(Protocol):
    """A member."""

    def wake(self) -> None:
        """Look again what there is to read."""
        ...


@dataclass(slots=True)
class _Owned:
    member: Waker
    start: int
    handed_out: int
    acknowledged: int
    is_draining: bool = False
    """Belongs to another member as soon as what was handed out has been acknowledged."""


class MemoryGroup:
    """Some members, and the positions that they share."""

    def __init__(self, positions: Mapping[int, int]) -> None:
        self.positions = dict(positions)
        """Partition to the first offset that has not been acknowledged."""
        self.members: list[Waker] = []
        self._owned: dict[int, _Owned] = {}

    def join(self, member: Waker) -> None:
        """Take part."""
        self.members.append(member)
        self._share()

    def leave(self, member: Waker) -> None:
        """Give everything back; harmless when repeated."""
        if member in self.members:
            self.members.remove(member)
        self._owned = {number: owned for number, owned in self._owned.items() if owned.member is not member}
        self._share()

    def open_positions(self, member: Waker) -> dict[int, int]:
        """What the member may read next: partition to offset."""
        return {
            number: owned.handed_out
            for number, owned in self._owned.items()
            if owned.member is member and not owned.is_draining
        }

    def hand_out(self, ends: Mapping[int, int]) -> None:
        """The owners have been given everything below these offsets."""
        for number, end in ends.items():
            self._owned[number].handed_out = end

    def acknowledge(self, member: Waker, ends: Mapping[int, int]) -> None:
        """Record progress; raises `LeaseLost` for partitions that have passed on."""
        lost = []
        for number, end in ends.items():
            owned = self._owned.get(number)
            if owned is None or owned.member is not member or not owned.start < end <= owned.handed_out:
                lost.append(number)
                continue
            owned.acknowledged = max(owned.acknowledged, end)
            self.positions[number] = max(self.positions[number], end)
        self._share()
        if lost:
            raise LeaseLost(f"partition {', '.join(map(str, lost))} has passed on to another member")

    def _share(self) -> None:
        """Bring what everybody owns as near to a fair share as what is under way allows."""
        before = {number: owned.member for number, owned in self._owned.items()}
        for rank, member in enumerate(self.members):
            self._shrink(member, fair_share(len(self.positions), len(self.members), rank))
        for rank, member in enumerate(self.members):
            self._grow(member, fair_share(len(self.positions), len(self.members), rank))
        if before != {number: owned.member for number, owned in self._owned.items()}:
            for member in self.members:
                member.wake()

    def _shrink(self, member: Waker, quota: int) -> None:
        own = [(number, owned) for number, owned in self._owned.items() if owned.member is member]
        own.sort(key=lambda item: item[1].handed_out - item[1].acknowledged)
        surplus = max(0, len(own) - quota)
        for number, owned in own[:surplus]:
            owned.is_draining = owned.acknowledged < owned.handed_out
            if not owned.is_draining:
                del self._owned[number]
        for _, owned in own[surplus:]:
            owned.is_draining = False

    def _grow(self, member: Waker, quota: int) -> None:
        count = sum(owned.member is member for owned in self._owned.values())
        free = [number for number in self.positions if number not in self._owned]
        for number in free[: max(0, quota - count)]:
            at = self.positions[number]
            self._owned[number] = _Owned(member, start=at, handed_out=at, acknowledged=at)
