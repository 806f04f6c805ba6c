from __future__ import annotations

import pytest

from pipeline.store.schema import same_spelling


@pytest.mark.parametrize(
    ("definition", "wanted"),
    [
        (
            "CREATE UNIQUE INDEX leases_pkey ON lab.public.leases USING btree (name ASC)",
            "CREATE UNIQUE INDEX leases_pkey ON leases USING btree (name)",
        ),
        (
            "CREATE UNIQUE INDEX outbox_pkey ON lab.public.outbox USING btree (key ASC, version ASC, id ASC)",
            "CREATE UNIQUE INDEX outbox_pkey ON outbox USING btree (key, version, id)",
        ),
        (
            "CREATE INDEX d ON lab.public.descriptions USING inverted (dimensions)",
            "CREATE INDEX d ON descriptions USING gin (dimensions)",
        ),
        (
            "CREATE INDEX p ON lab.public.descriptions USING btree (machine_id ASC) WHERE (power_cycle)",
            "CREATE INDEX p ON descriptions USING btree (machine_id) WHERE power_cycle",
        ),
        (
            "CREATE INDEX p ON public.descriptions USING btree (machine_id DESC) WHERE (a > 0)",
            "CREATE INDEX p ON descriptions USING btree (machine_id DESC) WHERE (a > 0)",
        ),
    ],
)
def test_both_databases_spell_an_index_the_same_way(definition: str, wanted: str) -> None:
    """The table with its database and schema, the default direction, the kind and brackets are CockroachDB's additions."""
    assert same_spelling(definition) == wanted
    assert same_spelling(wanted) == wanted
