"""Gathers notices, so that 500 machines lost with a switch are one message. Pure; what is gathered survives a restart.

A group is one channel's notices of one kind. It is sent when nothing has been added to it for a while, and after some
minutes whatever comes. What is undone before it was told is not told: a machine that is back within the while never was down.

While a channel takes nothing, its first few messages wait for it; what comes then stays in the groups, one of a kind, and becomes
one message when there is room. So what is kept is bounded, however long a channel is dead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, Field

from consumers.notifier.notices import Notice, NoticeKind
from schemas.ids import new_ulid

LONGEST_PAUSE: Final = timedelta(hours=2)
"""Between two tries of a message; receivers who want a longer rest do not get it."""
MAX_NAMED: Final = 1000
"""Machines of a group that are named; the rest is only counted."""

MAX_WAITING: Final = 5
"""Messages of a channel that wait until it takes them. More than one, for a channel may take all but one that it does not like."""

_UNDOES: Final = {
    NoticeKind.BACK: (NoticeKind.DOWN,),
    NoticeKind.DOWN: (NoticeKind.BACK,),
}
"""What comes to nothing when the other comes before it was told."""
_REPLACES: Final = {NoticeKind.HEALED: (NoticeKind.BACK,)}
"""What says the same, and more."""


class Group(BaseModel):
    """Notices that will be one message."""

    channel: str
    kind: NoticeKind
    began_at: datetime
    latest_at: datetime
    notices: dict[str, Notice] = Field(default_factory=dict)
    """By machine."""
    unnamed: int = 0
    """How many more there are than are named."""
    messages: int = 0
    """How many it would have been by now, had its channel taken any."""
    held_since: datetime | None = None
    """When the first of them should have been told; None: it never had to wait."""
    is_complete: bool = False
    """What comes next would have been told in another message."""


class Delivery(BaseModel):
    """A message that must reach its channel."""

    id: str
    """ULID; a message that is sent again, because nobody knows whether it arrived, has the same."""
    group: Group
    made_at: datetime
    attempts: int = 0
    not_before: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether to send it now; also when `not_before` is further away than any pause: the clock was put back."""
        return not timedelta(0) < self.not_before - now <= LONGEST_PAUSE


class Desk(BaseModel):
    """Everything that is gathered or on its way: what the notifier must not lose."""

    positions: dict[int, int] = Field(default_factory=dict)
    """Partition → offset behind the last change that is in here."""
    in_error: set[str] = Field(default_factory=set)
    groups: list[Group] = Field(default_factory=list)
    deliveries: list[Delivery] = Field(default_factory=list)

    def add(self, notice: Notice, channels: Iterable[str], *, now: datetime) -> None:
        """Gather a notice for each of the channels."""
        for channel in channels:
            undone = [self._take_back(channel, kind, notice) for kind in _UNDOES.get(notice.kind, ())]
            for kind in _REPLACES.get(notice.kind, ()):
                self._take_back(channel, kind, notice)
            if not any(undone):
                self._put(channel, notice, now)

    def _take_back(self, channel: str, kind: NoticeKind, notice: Notice) -> bool:
        group = self._group(channel, kind)
        if group is None or group.notices.pop(notice.machine_id, None) is None:
            return False
        if not group.notices and not group.unnamed:
            self.groups.remove(group)
        return True

    def _put(self, channel: str, notice: Notice, now: datetime) -> None:
        group = self._group(channel, notice.kind)
        if group is None:
            group = Group(channel=channel, kind=notice.kind, began_at=now, latest_at=now)
            self.groups.append(group)
        group.latest_at = now
        if group.is_complete:
            group.is_complete, group.began_at = False, now
        if notice.machine_id in group.notices or len(group.notices) < MAX_NAMED:
            group.notices[notice.machine_id] = notice
        else:
            group.unnamed += 1

    def _group(self, channel: str, kind: NoticeKind) -> Group | None:
        return next((each for each in self.groups if each.channel == channel and each.kind is kind), None)

    def close(self, *, quiet: timedelta, longest: timedelta, now: datetime) -> list[Group]:
        """Take out the groups that are to be told now, and whose channels have room."""
        waiting = Counter(each.group.channel for each in self.deliveries)
        closed, kept = [], []
        for each in self.groups:
            if _is_ready(each, quiet, longest, now) and waiting[each.channel] < MAX_WAITING:
                waiting[each.channel] += 1
                closed.append(each)
            else:
                kept.append(each)
        self.groups = kept
        return closed

    def hold(self, *, quiet: timedelta, longest: timedelta, now: datetime) -> list[Group]:
        """Take note of the groups that should be told now, but must wait. Return those that a message was merged into."""
        merged = []
        for each in self.groups:
            if _is_ready(each, quiet, longest, now) and not each.is_complete:
                each.is_complete = True
                each.messages += 1
                if each.held_since is None:
                    each.held_since = now
                else:
                    merged.append(each)
        return merged

    def send(self, group: Group, *, now: datetime) -> None:
        """Put a group among what must reach its channel."""
        self.deliveries.append(Delivery(id=new_ulid(), group=group, made_at=now, not_before=now))


def _is_ready(group: Group, quiet: timedelta, longest: timedelta, now: datetime) -> bool:
    if group.is_complete:
        return True
    return (
        now - group.latest_at >= quiet
        or now - group.began_at >= longest
        or group.began_at - now >= longest  # the clock was put back
    )
