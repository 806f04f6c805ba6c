"""How a group of notices reads: a headline, a few words on what they have in common, and the machines. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from consumers.notifier.grouping import Delivery, Group
from consumers.notifier.notices import Notice, NoticeKind
from schemas.power import PowerOutlet
from schemas.wire import format_time

_WORDS: Final[Mapping[NoticeKind, tuple[str, str]]] = {
    NoticeKind.DOWN: ("is down", "are down"),
    NoticeKind.BACK: ("is back", "are back"),
    NoticeKind.HEALED: ("was healed by a power cycle", "were healed by power cycles"),
    NoticeKind.GAVE_UP: (
        "could not be healed: a person must look",
        "could not be healed: a person must look",
    ),
    NoticeKind.QUARANTINED: ("was quarantined by a task", "were quarantined by tasks"),
    NoticeKind.CONTROLLER: (
        "has a power controller that does not answer",
        "have power controllers that do not answer",
    ),
}
_COMMON: Final = 3
"""So many pools, and controllers, are counted one by one."""
_LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. The channels give it their forms."""

    id: str
    """ULID: the same when it is sent again."""
    kind: NoticeKind
    at: datetime
    headline: str
    """Such as `500 machines are down`."""
    common: Sequence[str]
    """Lines on what they have in common."""
    notices: Sequence[Notice]
    """At most `grouping.MAX_NAMED`, by machine."""
    count: int
    page: str | None
    """Address of the façade."""
    merged: int = 1
    """How many messages it stands for: more than one where they could not be sent for a while."""

    def link(self, machine_id: str) -> str | None:
        """Where the machine's page is."""
        if self.page is None:
            return None
        return self.page.rstrip("/") + "/?machine=" + quote(machine_id)

    def lines(self, most: int) -> list[str]:
        """A line for each of the first `most` machines, and one for the rest."""
        shown = [": ".join(filter(None, (each.machine_id, each.text))) for each in self.notices[:most]]
        rest = self.count - len(shown)
        return [*shown, f"and {rest} more"] if rest else shown

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "at": format_time(self.at),
            "headline": self.headline,
            "common": list(self.common),
            "count": self.count,
            "merged": self.merged,
            "machines": [
                {
                    "id": each.machine_id,
                    "pools": list(each.pools),
                    "at": format_time(each.at),
                    "text": each.text,
                    "url": self.link(each.machine_id),
                }
                for each in self.notices
            ],
        }


def message_of(
    delivery: Delivery, notices: Sequence[Notice], outlets: Mapping[str, PowerOutlet], page: str | None
) -> Message:
    """The message about those of the delivery's notices that are not silenced. `outlets`: by machine."""
    count = len(notices) + delivery.group.unnamed
    kind = delivery.group.kind
    one, many = _WORDS[kind]
    headline = f"{count} machines {many}"
    if count == 1:
        headline = f"{notices[0].machine_id if notices else '1 machine'} {one}"
    common = _merged(delivery.group)
    if count > 1 and notices:
        pools = Counter(pool for each in notices for pool in each.pools or ("no pool",))
        common.append("Pools: " + _counted(pools))
    behind = Counter(outlets[each.machine_id].controller for each in notices if each.machine_id in outlets)
    if behind and kind is NoticeKind.CONTROLLER:
        headline += ": " + ", ".join(_on_a_line(name) for name, _ in behind.most_common(_COMMON))
        common += _in_error(behind, outlets.values())
    elif behind and count > 1:
        common.append("Power controllers: " + _counted(behind))
    return Message(
        delivery.id,
        kind,
        delivery.group.latest_at,
        headline,
        common,
        sorted(notices, key=lambda each: each.machine_id),
        count,
        page,
        merged=max(delivery.group.messages, 1),
    )


def _merged(group: Group) -> list[str]:
    """What must be said of a group that had to wait, and so became longer than others."""
    if group.messages < 2 or group.held_since is None:
        return []
    since = format_time(group.held_since.replace(microsecond=0))
    told = [f"This stands for {group.messages} messages: from {since} on nothing could be told here."]
    if group.unnamed:
        told.append(
            f"Machines beyond the first {len(group.notices)} are counted each time, and may be well again."
        )
    return told


def _in_error(behind: Counter[str], outlets: Collection[PowerOutlet]) -> list[str]:
    """A line for each of the first controllers: how many of the machines it has, and what is wrong with it."""
    texts = {outlet.controller: _on_a_line(outlet.text) for outlet in outlets if outlet.text}
    told = [
        f"{_on_a_line(name)} ({count} machine{'' if count == 1 else 's'}): {texts.get(name) or 'no reason is known'}"
        for name, count in behind.most_common(_COMMON)
    ]
    rest = len(behind) - len(told)
    return [*told, f"and {rest} more controllers"] if rest else told


def _on_a_line(text: str) -> str:
    """What an agent says, short, and fit for a mail's subject."""
    return " ".join(text.split())[:_LONGEST_REASON]


def _counted(counts: Counter[str]) -> str:
    told = [f"{_on_a_line(name)} {count}" for name, count in counts.most_common(_COMMON)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_COMMON))
    return ", ".join([*told, f"others {rest}"] if rest else told)
