"""What self-healing reads from the store before it decides, and where its rules are kept for others to explain them.

Machines that are well are not read: of those a count is enough, which whoever decides takes every few minutes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import orjson

from pipeline.errors import MachineNotFound, Misconfigured
from pipeline.healing.policy import Policies
from pipeline.healing.policy_file import document_of, policies_of
from pipeline.healing.view import LONGEST_COMMAND, Machine, Totals, View, ended_at, rack_of, trouble_of
from pipeline.store.power_pages import every_command
from pipeline.store.power_protocol import PowerStore
from pipeline.store.protocol import Checkpoints, Query, Store
from schemas.description import Description
from schemas.health import Health
from schemas.power import PowerRecord

CHECKPOINT: Final = "self-healing"
"""Where the rules are kept."""
MOST_ASKED_FOR: Final = 300
"""Each is a read of its own."""
_PAGE: Final = 500
_LOOK_BACK: Final = timedelta(hours=1)
"""Commands change for no longer than that after they were requested."""


class HealingStore(Store, PowerStore, Checkpoints, Protocol):
    """What self-healing needs of the store."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the deciding process goes by."""

    policies: Policies
    totals: Totals

    def to_json(self) -> bytes:
        """For the checkpoint."""
        totals = {
            "machines": self.totals.machines,
            "pools": dict(self.totals.pools),
            "racks": dict(self.totals.racks),
        }
        document = {"policies": document_of(self.policies), "totals": totals}
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, content: bytes) -> Rules:
        """What `to_json` wrote."""
        document = orjson.loads(content)
        return cls(policies_of(document["policies"], "the saved policy"), Totals(**document["totals"]))


NO_RULES: Final = Rules(Policies(), Totals())


async def saved_rules(store: Checkpoints) -> Rules:
    """The rules that were saved last; self-healing is off if there are none."""
    saved = await store.checkpoint(CHECKPOINT)
    if saved is None:
        return NO_RULES
    try:
        return Rules.from_json(saved.content)
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            "the watchdog saved its healing policy in another form: run the same version of labkeeper everywhere"
        ) from error


@dataclass(frozen=True, slots=True)
class Census:
    """All machines, counted."""

    totals: Totals
    told: frozenset[str]
    """Ids of machines of which self-healing has said something."""


async def take_census(store: HealingStore) -> Census:
    """Look at every machine, page by page."""
    outlets = {outlet.machine_id: outlet for outlet in await store.power_outlets()}
    pools: Counter[str] = Counter()
    racks: Counter[str] = Counter()
    told = set()
    machines = 0
    async for machine in _listed(store, Query()):
        machine_id = machine.dimension("id")[-1]
        machines += 1
        pools.update(machine.dimension("pool"))
        racks[rack_of(machine, outlets.get(machine_id))] += 1
        if machine.healing:
            told.add(machine_id)
    return Census(Totals(machines, pools, racks), frozenset(told))


async def _listed(store: Store, query: Query) -> AsyncIterator[Description]:
    cursor: str | None = None
    while True:
        page = await store.list(query, limit=_PAGE, cursor=cursor)
        for machine in page.machines:
            yield machine
        cursor = page.next_cursor
        if cursor is None:
            return


class PowerLedger:
    """Commands as far back as they matter. After the first reading, only the latest are read anew."""

    def __init__(self) -> None:
        self._records: dict[str, PowerRecord] = {}
        self._begins: datetime | None = None
        """It is complete from then on."""

    async def read(self, store: PowerStore, *, since: datetime, now: datetime) -> Sequence[PowerRecord]:
        """All commands requested since then, newest first."""
        is_complete = self._begins is not None and self._begins <= since
        async for record in every_command(store, since=now - _LOOK_BACK if is_complete else since):
            self._records[record.command.id] = record
        async for record in every_command(store, pending=True):
            self._records[record.command.id] = record
        kept = [each for each in self._records.values() if each.command.requested_at >= since]
        self._records = {each.command.id: each for each in kept}
        self._begins = since
        return sorted(kept, key=lambda each: each.command.id, reverse=True)


async def read_view(
    store: HealingStore, ledger: PowerLedger, rules: Rules, *, now: datetime, also: Iterable[str] = ()
) -> View:
    """Every machine in trouble or lately cycled, and the first `MOST_ASKED_FOR` of others asked for, if they are there."""
    window = max(rules.policies.longest_window, _LOOK_BACK)
    records: dict[str, list[PowerRecord]] = defaultdict(list)
    for record in await ledger.read(store, since=now - window, now=now):
        records[record.command.machine_id].append(record)
    machines = await _in_trouble(store)
    asked_for = sorted(set(also) - machines.keys())[:MOST_ASKED_FOR]
    for machine_id in {*asked_for, *_lately_cycled(records, rules.policies, now)} - machines.keys():
        try:
            machines[machine_id] = await store.get(machine_id)
        except MachineNotFound:
            continue
    return View(await _with_power(store, machines, records), rules.totals)


async def _in_trouble(store: Store) -> dict[str, Description]:
    return {
        machine.dimension("id")[-1]: machine
        for health in (Health.DOWN, Health.RECOVERING)
        async for machine in _listed(store, Query(health=[health]))
        if trouble_of(machine) is not None
    }


def _lately_cycled(
    records: Mapping[str, Sequence[PowerRecord]], policies: Policies, now: datetime
) -> list[str]:
    """Machines that may be under way although nothing seems wrong with them."""
    pause = max((policy.longest_pause for policy in policies.pools.values()), default=LONGEST_COMMAND)
    return [
        machine_id
        for machine_id, commands in records.items()
        if any(each.status.is_pending or ended_at(each) + pause > now for each in commands)
    ]


async def _with_power(
    store: PowerStore, machines: Mapping[str, Description], records: Mapping[str, Sequence[PowerRecord]]
) -> list[Machine]:
    known: Collection[str] = list(machines)
    outlets = {each.machine_id: each for each in await store.power_outlets(known)} if known else {}
    return [
        Machine(machine_id, machine, records.get(machine_id, ()), outlets.get(machine_id))
        for machine_id, machine in machines.items()
    ]
