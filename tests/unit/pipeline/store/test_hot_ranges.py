"""No index takes all new entries at one end. There one node of CockroachDB would do all the work, and the others none."""

from __future__ import annotations

import re
from typing import Final

from pipeline.store.schema import expected_schema

SPREAD: Final = {
    "checkpoints.name": "one row a service",
    "deleted_machines.machine_id": "names that people gave",
    "descriptions.dimensions": "inverted: names and values of dimensions",
    "descriptions.machine_id": "names that people gave",
    "leases.name": "one row a service",
    "machine_history.machine_id": "names that people gave; within one machine the lines grow",
    "outbox.key": "machine ids; within one machine the messages grow",
    "power_commands.machine_id": "names that people gave; within one machine the commands grow",
    "power_outlets.machine_id": "names that people gave",
    "progress.service": "one row a service and instance",
}
GROWING: Final = {
    "power_commands.id": "a ULID, but people do not cycle power often enough to keep a node busy",
    "schema_migrations.name": "a few rows a year",
    "silences.id": "a ULID, but a few rows a week",
    "transaction_ledger.worker": "a ULID, but one row a worker thread, which is then overwritten",
}
"""Growing all the same, and why that does no harm."""

_EVER_GREATER: Final = ("timestamp", "date", "bigint", "integer")


def leading_column(definition: str) -> str:
    """`table.column` that an index sorts by first."""
    found = re.search(r" ON (\w+) USING \w+ \((\w+)", definition)
    assert found is not None, definition
    return f"{found[1]}.{found[2]}"


def is_known(definition: str) -> bool:
    return leading_column(definition) in {*SPREAD, *GROWING}


def test_every_index_begins_with_a_column_whose_values_are_spread() -> None:
    """Whoever adds an index says here why its first column does not grow with time."""
    definitions = [index for parts in expected_schema().values() for index in parts["indexes"].values()]

    assert [each for each in definitions if not is_known(each)] == []
    assert {leading_column(each) for each in definitions} == {*SPREAD, *GROWING}


def test_times_and_numbers_are_not_spread() -> None:
    schema = expected_schema()
    for place in SPREAD:
        table, column = place.split(".")
        assert not schema[table]["columns"][column].startswith(_EVER_GREATER)


def test_an_index_by_time_would_be_noticed() -> None:
    assert not is_known("CREATE INDEX machine_history_at ON machine_history USING btree (at)")
    assert not is_known(
        "CREATE UNIQUE INDEX machine_history_pkey ON machine_history USING btree (id, machine_id)"
    )
    assert is_known(
        "CREATE UNIQUE INDEX machine_history_pkey ON machine_history USING btree (machine_id, id)"
    )
