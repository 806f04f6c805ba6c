"""CockroachDB keeps old versions of a row for hours. Of tables whose rows are overwritten or deleted all the time, shorter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pipeline.store import power_queries, queries, transaction

DOCUMENT: Final = Path(__file__).parents[4] / "docs" / "cockroachdb.md"
SELDOM: Final = {
    "deleted_machines": "a row when somebody deletes a machine",
    "machine_history": "rows are deleted after 90 days, once",
    "power_commands": "a row is overwritten a few times, when somebody drives a machine's power",
    "silences": "a row when somebody wants to hear nothing",
}
_OVERWRITES: Final = re.compile(
    r"INSERT INTO (\w+)(?=.* DO UPDATE)|^UPDATE (\w+)|DELETE FROM (\w+)", re.DOTALL
)


def overwritten() -> set[str]:
    """Tables of which a statement overwrites or deletes rows."""
    statements = [each for module in (queries, power_queries, transaction) for each in vars(module).values()]
    found = [_OVERWRITES.search(each) for each in statements if isinstance(each, str)]
    return {next(filter(None, match.groups())) for match in found if match is not None}


def test_every_table_that_is_overwritten_in_place_is_to_forget_soon() -> None:
    listed = set(re.findall(r"ALTER TABLE labkeeper\.(\w+) CONFIGURE ZONE USING gc", DOCUMENT.read_text()))

    assert overwritten() - set(SELDOM) == listed


def test_the_statements_are_recognized() -> None:
    assert {"checkpoints", "descriptions", "outbox", "transaction_ledger"} <= overwritten()
    assert set(SELDOM) <= overwritten()
