"""What is lost together is told together, and what was undone in time is not told."""

from __future__ import annotations

from datetime import timedelta

from consumers.notifier.grouping import MAX_NAMED, MAX_WAITING, Desk
from consumers.notifier.notices import Notice, NoticeKind
from tests.unit.consumers.notifier.lab import NOON

QUIET, LONGEST = timedelta(seconds=30), timedelta(seconds=180)


def notice(kind: NoticeKind, machine_id: str = "m") -> Notice:
    return Notice(kind=kind, machine_id=machine_id, pools=("Lab",), at=NOON, text="")


def gathered(*notices: Notice) -> Desk:
    desk = Desk()
    for each in notices:
        desk.add(each, ["chat"], now=NOON)
    return desk


def kinds(desk: Desk) -> dict[NoticeKind, list[str]]:
    return {group.kind: sorted(group.notices) for group in desk.groups}


def test_notices_of_one_kind_become_one_group() -> None:
    desk = gathered(*(notice(NoticeKind.DOWN, f"m{number}") for number in range(500)))
    [group] = desk.groups
    assert len(group.notices) == 500


def test_a_group_is_closed_when_it_has_been_quiet_for_long_enough() -> None:
    desk = gathered(notice(NoticeKind.DOWN, "a"))
    desk.add(notice(NoticeKind.DOWN, "b"), ["chat"], now=NOON + timedelta(seconds=20))
    assert desk.close(quiet=QUIET, longest=LONGEST, now=NOON + timedelta(seconds=49)) == []
    [group] = desk.close(quiet=QUIET, longest=LONGEST, now=NOON + timedelta(seconds=50))
    assert sorted(group.notices) == ["a", "b"]
    assert desk.groups == []


def test_a_group_that_never_rests_is_closed_all_the_same() -> None:
    desk = Desk()
    for second in range(0, 180, 10):
        now = NOON + timedelta(seconds=second)
        desk.add(notice(NoticeKind.DOWN, f"m{second}"), ["chat"], now=now)
        assert desk.close(quiet=QUIET, longest=LONGEST, now=now) == []
    assert len(desk.close(quiet=QUIET, longest=LONGEST, now=NOON + LONGEST)) == 1


def test_a_machine_that_is_back_before_it_was_told_never_was_down() -> None:
    desk = gathered(notice(NoticeKind.DOWN, "a"), notice(NoticeKind.DOWN, "b"), notice(NoticeKind.BACK, "a"))
    assert kinds(desk) == {NoticeKind.DOWN: ["b"]}


def test_a_machine_that_falls_silent_again_before_its_return_was_told_has_not_returned() -> None:
    assert kinds(gathered(notice(NoticeKind.BACK), notice(NoticeKind.DOWN))) == {}


def test_healed_says_that_it_is_back_as_well() -> None:
    assert kinds(gathered(notice(NoticeKind.BACK), notice(NoticeKind.HEALED))) == {NoticeKind.HEALED: ["m"]}


def test_each_channel_has_groups_of_its_own() -> None:
    desk = Desk()
    desk.add(notice(NoticeKind.DOWN), ["chat", "mail"], now=NOON)
    assert sorted(group.channel for group in desk.groups) == ["chat", "mail"]


def test_beyond_a_thousand_machines_are_only_counted() -> None:
    desk = gathered(*(notice(NoticeKind.DOWN, f"m{number}") for number in range(MAX_NAMED + 7)))
    assert (len(desk.groups[0].notices), desk.groups[0].unnamed) == (MAX_NAMED, 7)


def test_a_desk_survives_a_restart() -> None:
    desk = gathered(notice(NoticeKind.DOWN, "a"), notice(NoticeKind.GAVE_UP, "b"))
    desk.positions[3] = 17
    desk.in_error.add("c")
    desk.send(desk.groups.pop(), now=NOON)
    assert Desk.model_validate_json(desk.model_dump_json()) == desk


def test_what_a_channel_does_not_take_stays_one_group_of_a_kind() -> None:
    """Its first messages wait as they are; what comes then is gathered on, and counted by the messages it would have been."""
    desk = Desk()
    for number in range(MAX_WAITING + 4):
        now = NOON + number * QUIET
        desk.add(notice(NoticeKind.DOWN, f"m{number}"), ["chat"], now=now - QUIET)
        for group in desk.close(quiet=QUIET, longest=LONGEST, now=now):
            desk.send(group, now=now)
        for _ in range(3):
            merged = desk.hold(quiet=QUIET, longest=LONGEST, now=now)
    assert [list(each.group.notices) for each in desk.deliveries] == [[f"m{n}"] for n in range(MAX_WAITING)]
    [group] = desk.groups
    assert (len(group.notices), group.messages) == (4, 4)
    assert group.held_since == NOON + MAX_WAITING * QUIET
    assert merged == []
    desk.add(notice(NoticeKind.BACK, f"m{MAX_WAITING}"), ["chat"], now=now)
    assert kinds(desk) == {NoticeKind.DOWN: [f"m{MAX_WAITING + each}" for each in (1, 2, 3)]}

    desk.deliveries.pop()
    assert desk.close(quiet=QUIET, longest=LONGEST, now=now + QUIET) == [group]


def test_a_channel_that_takes_nothing_is_in_no_other_channels_way() -> None:
    desk = Desk()
    for number in range(MAX_WAITING + 1):
        desk.add(notice(NoticeKind.DOWN, f"m{number}"), ["chat"], now=NOON)
        for group in desk.close(quiet=timedelta(0), longest=LONGEST, now=NOON):
            desk.send(group, now=NOON)
    desk.add(notice(NoticeKind.DOWN), ["mail"], now=NOON)
    assert [each.channel for each in desk.close(quiet=timedelta(0), longest=LONGEST, now=NOON)] == ["mail"]
