"""The embedded broker's groups in SQL: who is a member, who owns which partition, how far the group has read.

Members own partitions for the length of a lease, by the database's clock. Every change of owner raises the partition's
epoch, and only the owner of the present epoch can acknowledge: a member that was away for too long finds that out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString

from pipeline.broker.embedded_log import PartitionState, offset_of, partitions_of
from pipeline.broker.embedded_session import Cursor
from pipeline.broker.partitions import fair_share
from pipeline.broker.protocol import From, Lag
from pipeline.errors import Rejected

REARRANGED: Final = "labkeeper_broker_rearranged"
"""Channel that says in which group (`<topic> <group>`) partitions have become free or members have come."""

_LOCK: Final[LiteralString] = (
    "SELECT pg_advisory_xact_lock(hashtextextended(%(group)s || ' ' || %(topic)s, 1))"
)

_BEAT: Final[LiteralString] = """
INSERT INTO labkeeper_broker.group_members AS m (group_name, topic, member, lease_until)
VALUES (%(group)s, %(topic)s, %(member)s, clock_timestamp() + %(lease)s)
ON CONFLICT (group_name, topic, member) DO UPDATE SET lease_until = excluded.lease_until
RETURNING xmax = 0
"""

_FORGET_THE_DEAD: Final[LiteralString] = """
DELETE FROM labkeeper_broker.group_members
WHERE group_name = %(group)s AND topic = %(topic)s AND lease_until < clock_timestamp()
"""

_MEMBERS: Final[LiteralString] = """
SELECT member FROM labkeeper_broker.group_members WHERE group_name = %(group)s AND topic = %(topic)s ORDER BY member
"""

_RELEASE: Final[LiteralString] = """
UPDATE labkeeper_broker.group_partitions SET owner = NULL, lease_until = '-infinity'
WHERE group_name = %(group)s AND topic = %(topic)s AND owner = %(member)s AND partition = ANY(%(partitions)s::int[])
"""

_PARTITIONS: Final[LiteralString] = """
SELECT g.partition, g.owner, g.epoch, g.committed_offset, g.owner IS NULL OR g.lease_until < clock_timestamp(), p.id
FROM labkeeper_broker.group_partitions g JOIN labkeeper_broker.log_partitions p USING (topic, partition)
WHERE g.group_name = %(group)s AND g.topic = %(topic)s
ORDER BY g.partition FOR UPDATE OF g
"""

_HOLD: Final[LiteralString] = """
UPDATE labkeeper_broker.group_partitions
SET lease_until = clock_timestamp() + %(lease)s,
    epoch = epoch + CASE WHEN owner IS DISTINCT FROM %(member)s THEN 1 ELSE 0 END,
    owner = %(member)s
WHERE group_name = %(group)s AND topic = %(topic)s AND partition = ANY(%(partitions)s::int[])
"""

_ACKNOWLEDGE: Final[LiteralString] = """
WITH done AS MATERIALIZED (
    SELECT g.partition, d.upto
    FROM labkeeper_broker.group_partitions g
    JOIN unnest(%(partitions)s::int[], %(upto)s::bigint[], %(epochs)s::bigint[]) AS d (partition, upto, epoch)
        ON g.partition = d.partition AND g.epoch = d.epoch
    WHERE g.group_name = %(group)s AND g.topic = %(topic)s AND g.owner = %(member)s
    ORDER BY g.partition FOR UPDATE OF g
)
UPDATE labkeeper_broker.group_partitions g
SET committed_offset = greatest(g.committed_offset, done.upto)
FROM done
WHERE g.group_name = %(group)s AND g.topic = %(topic)s AND g.partition = done.partition
RETURNING g.partition
"""

# The share locks wait for publishers that are under way, and hold up new ones for an instant: whatever is not counted
# here will be published after `measured_at`, which is the time at which all of this was sent.
_LAG: Final[LiteralString] = """
SELECT FROM labkeeper_broker.log_partitions WHERE topic = %(topic)s ORDER BY id FOR SHARE;

WITH unread AS (
    SELECT p.id, p.partition, p.next_offset, greatest(p.log_start, coalesce(g.committed_offset, 0)) AS position
    FROM labkeeper_broker.log_partitions p LEFT JOIN labkeeper_broker.group_partitions g
        ON g.group_name = %(group)s AND g.topic = %(topic)s AND g.partition = p.partition
    WHERE p.topic = %(topic)s
)
SELECT u.partition, u.next_offset - u.position, (
    SELECT published_at FROM labkeeper_broker.log_segments s
    WHERE u.next_offset > u.position AND s.partition_id = u.id AND s.base_offset <= u.position
    ORDER BY s.base_offset DESC LIMIT 1
), statement_timestamp()
FROM unread u ORDER BY u.partition
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group."""

    group: str
    topic: str
    """With prefix."""
    name: str
    lease: timedelta

    @property
    def address(self) -> str:
        """The group, as its notifications name it."""
        return f"{self.topic} {self.group}"

    @property
    def parameters(self) -> dict[str, object]:
        """What the statements above need."""
        return {"group": self.group, "topic": self.topic, "member": self.name, "lease": self.lease}


@dataclass(frozen=True, slots=True)
class Holding:
    """A partition that a member owns."""

    partition_id: int
    epoch: int
    committed_offset: int


@dataclass(frozen=True, slots=True)
class Share:
    """What a member owns."""

    held: Mapping[int, Holding]
    surplus: int
    """So many of them belong to others by right: finish and release them."""


def join(cursor: Cursor, member: Member, start: From | datetime) -> None:
    """Give the group a position in every partition, if it has none. Run in a transaction."""
    cursor.execute(_LOCK, member.parameters)
    known = _positions(cursor, member.group, member.topic)
    # A partition that was added since is read from its first message: the group has been listening all along.
    start = From.EARLIEST if known else start
    for partition in partitions_of(cursor, member.topic):
        if partition.partition not in known:
            _set_position(cursor, member.group, member.topic, partition, start)


def beat(cursor: Cursor, member: Member, *, releasing: Collection[int] = ()) -> Share:
    """Renew the leases, release what is asked, take what is free up to a fair share. Run in a transaction."""
    parameters = {**member.parameters, "partitions": list(releasing)}
    cursor.execute(_LOCK, parameters)
    cursor.execute(_BEAT, parameters)
    is_new = cursor.fetchone()[0]
    cursor.execute(_FORGET_THE_DEAD, parameters)
    if releasing:
        cursor.execute(_RELEASE, parameters)
    cursor.execute(_MEMBERS, parameters)
    members = [row[0] for row in cursor.fetchall()]
    cursor.execute(_PARTITIONS, parameters)
    rows = cursor.fetchall()
    quota = fair_share(len(rows), len(members), members.index(member.name))
    held = {row[0]: Holding(row[5], row[2], row[3]) for row in rows if row[1] == member.name}
    free = [row for row in rows if row[1] != member.name and row[4] and row[0] not in releasing]
    taken = {row[0]: Holding(row[5], row[2] + 1, row[3]) for row in free[: max(0, quota - len(held))]}
    held |= taken
    cursor.execute(_HOLD, {**parameters, "partitions": list(held)})
    if is_new or releasing:
        _announce(cursor, member)
    return Share(held, surplus=max(0, len(held) - quota))


def leave(cursor: Cursor, member: Member) -> None:
    """Release everything at once. Run in a transaction."""
    cursor.execute(_LOCK, member.parameters)
    cursor.execute(
        "UPDATE labkeeper_broker.group_partitions SET owner = NULL, lease_until = '-infinity'"
        " WHERE group_name = %(group)s AND topic = %(topic)s AND owner = %(member)s",
        member.parameters,
    )
    cursor.execute(
        "DELETE FROM labkeeper_broker.group_members"
        " WHERE group_name = %(group)s AND topic = %(topic)s AND member = %(member)s",
        member.parameters,
    )
    _announce(cursor, member)


def acknowledge(cursor: Cursor, member: Member, done: Mapping[int, tuple[int, int]]) -> set[int]:
    """Record progress: partition to the first offset not dealt with, and the epoch in which it was read.

    Returns the partitions that have passed on to other members; nothing is recorded for them.
    """
    cursor.execute(
        _ACKNOWLEDGE,
        {
            **member.parameters,
            "partitions": list(done),
            "upto": [upto for upto, _ in done.values()],
            "epochs": [epoch for _, epoch in done.values()],
        },
    )
    return done.keys() - {row[0] for row in cursor.fetchall()}


def seek(cursor: Cursor, group: str, topic: str, to: From | datetime) -> None:
    """Set the group's position; raises `Rejected` while it has live members. Run in a transaction."""
    parameters = {"group": group, "topic": topic}
    cursor.execute(_LOCK, parameters)
    cursor.execute(_FORGET_THE_DEAD, parameters)
    cursor.execute(_MEMBERS, parameters)
    members = cursor.fetchall()
    if members:
        raise Rejected(f"group {group!r} has {len(members)} live members: stop them before you move it")
    for partition in partitions_of(cursor, topic):
        _set_position(cursor, group, topic, partition, to)


def lag(cursor: Cursor, group: str, topic: str) -> list[Lag]:
    """How far the group is behind."""
    cursor.execute(_LAG, {"group": group, "topic": topic})
    return [Lag(*row) for row in cursor.fetchall()]


def _positions(cursor: Cursor, group: str, topic: str) -> set[int]:
    cursor.execute(
        "SELECT partition FROM labkeeper_broker.group_partitions WHERE group_name = %s AND topic = %s",
        (group, topic),
    )
    return {row[0] for row in cursor.fetchall()}


def _set_position(
    cursor: Cursor, group: str, topic: str, partition: PartitionState, start: From | datetime
) -> None:
    cursor.execute(
        "INSERT INTO labkeeper_broker.group_partitions AS g (group_name, topic, partition, committed_offset)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT (group_name, topic, partition) DO UPDATE"
        " SET committed_offset = excluded.committed_offset, owner = NULL, epoch = g.epoch + 1",
        (group, topic, partition.partition, offset_of(cursor, partition, start)),
    )


def _announce(cursor: Cursor, member: Member) -> None:
    cursor.execute("SELECT pg_notify(%s, %s)", (REARRANGED, member.address))
