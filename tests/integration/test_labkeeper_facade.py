"""`labkeeper machines` and `labkeeper status` against the façade itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consumers.facade.tokens import hash_of
from schemas.description import Annotation
from tests.unit.consumers.facade.lab import NOW, Lab, running
from tests.unit.producers.labkeeper.command_line import Result, labkeeper_beside

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quiet_server")]


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with running() as lab:
        yield lab


async def _machines(lab: Lab, *arguments: str, **environment: str) -> Result:
    return await labkeeper_beside("machines", *arguments, LABKEEPER_URL=lab.url, **environment)


async def test_machines_are_listed_by_what_is_asked_for(lab: Lab) -> None:
    await lab.machine(
        "phone-1", attached_device="adb", battery=40, dimensions={"id": ["phone-1"], "os": ["Android"]}
    )
    await lab.machine("phone-2", attached_device="adb", battery=90, recovering="Too hot.")
    await lab.machine(
        "host-1", down_since=NOW, note=Annotation(message="Fan is LOUD", user="ada", timestamp=NOW)
    )

    async def names(*arguments: str) -> list[str]:
        result = await _machines(lab, "list", "-o", "name", *arguments)
        assert result.code == 0, result.err
        return result.lines

    assert await names() == ["host-1", "phone-1", "phone-2"]
    assert await names("--down") == ["host-1"]
    assert await names("--available") == ["phone-1"]
    assert await names("--health", "recovering", "--device", "adb") == ["phone-2"]
    assert await names("--where", "os=Android") == ["phone-1"]
    assert await names("loud", "fan") == ["host-1"]
    assert await names("--sort", "battery", "--desc", "phone") == ["phone-2", "phone-1"]
    assert await names("--down", "--available") == []


async def test_a_long_list_comes_whole(lab: Lab) -> None:
    for number in range(7):
        await lab.machine(f"m-{number}")

    everything = await _machines(lab, "list", "-o", "json")
    some = await _machines(lab, "list", "-o", "name", "--limit", "3")

    assert [machine["Dimensions"]["id"] for machine in everything.json] == [[f"m-{n}"] for n in range(7)]
    assert some.lines == ["m-0", "m-1", "m-2"]


async def test_what_an_operator_does_is_seen_and_remembered(lab: Lab) -> None:
    await lab.machine("m", is_quarantined=True)

    for arguments in (
        ("maintenance", "on", "m", "--reason", "new fan"),
        ("note", "m", "-m", "smells"),
        ("set-device", "adb", "m"),
        ("clear-quarantine", "m"),
    ):
        result = await _machines(lab, *arguments)
        assert result.code == 0, result.err
    shown = await _machines(lab, "show", "m", "-o", "json")
    listed = await _machines(lab, "list")
    history = await _machines(lab, "history", "m")

    assert shown.json["Note"]["Message"] == "smells"
    assert shown.json["AttachedDevice"] == "adb"
    assert shown.json["IsQuarantined"] is False
    assert listed.lines[1].split()[:5] == ["m", "maintenance", "new", "fan", "(local)"]
    changes = {line.split()[1]: line for line in history.lines[1:]}
    assert changes["mode"].endswith(" - → maintenance: new fan (local)")
    assert changes["note"].endswith(" - → smells")
    assert "nodevice → adb" in changes["device"]


async def test_what_was_done_can_be_undone(lab: Lab) -> None:
    await lab.machine("m")
    await _machines(lab, "maintenance", "on", "m")
    await _machines(lab, "note", "m", "-m", "smells")

    for arguments in (("maintenance", "off", "m"), ("maintenance", "off", "m"), ("note", "m", "--clear")):
        assert (await _machines(lab, *arguments)).code == 0
    shown = await _machines(lab, "show", "m", "-o", "json")

    assert (shown.json["MaintenanceMode"], shown.json["Note"]["Message"]) == ("", "")


async def test_a_deleted_machine_is_gone_and_keeps_its_history(lab: Lab) -> None:
    await lab.machine("m")

    deleted = await _machines(lab, "delete", "m", "--yes")
    shown = await _machines(lab, "show", "m")
    again = await _machines(lab, "delete", "m", "--yes")
    history = await _machines(lab, "history", "m")

    assert (deleted.code, shown.code, again.code) == (0, 3, 3)
    assert shown.err.startswith("labkeeper: ")
    assert history.lines[1].split()[1] == "deleted"


async def test_a_refused_body_is_explained_in_one_sentence(lab: Lab) -> None:
    await lab.machine("m")

    result = await _machines(lab, "maintenance", "on", "m", "--reason", "x" * 1000)

    assert result.code == 1
    assert result.err.count("reason") == 1
    assert len(result.err.splitlines()) == 1


async def test_changes_are_seen_while_they_happen(lab: Lab) -> None:
    await lab.machine("m")
    async with _watching(lab, "-n", "2", "-o", "json") as watch:
        assert await watch.says() == "Watching 1 machine."
        await lab.machine("m", recovering="Too hot.")
        changed = json.loads(await watch.line())
        await lab.delete("m")
        deleted = json.loads(await watch.line())

    assert (changed["kind"], changed["changes"][0]["after"]) == ("changed", "Too hot.")
    assert (deleted["kind"], deleted["id"]) == ("deleted", "m")
    assert watch.code == 0


async def test_one_machine_is_watched_on_its_own(lab: Lab) -> None:
    await lab.machine("m")
    await lab.machine("other")
    async with _watching(lab, "m", "-n", "1") as watch:
        assert await watch.says() == "Watching m."
        await lab.machine("other", recovering="Too hot.")
        await lab.machine("m", recovering="Too cold.")
        line = await watch.line()

    assert line.endswith("m  available → recovering: Too cold.")
    assert watch.code == 0


class Watch:
    """`labkeeper machines watch` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def code(self) -> int | None:
        return self._process.returncode

    async def line(self) -> str:
        """The next line of the answer."""
        return await self._next(self._process.stdout)

    async def says(self) -> str:
        """The next line that is for the person."""
        return await self._next(self._process.stderr)

    async def _next(self, stream: asyncio.StreamReader | None) -> str:
        assert stream is not None
        async with asyncio.timeout(60):
            return (await stream.readline()).decode().rstrip("\n")

    async def end(self) -> None:
        async with asyncio.timeout(60):
            await self._process.wait()


@asynccontextmanager
async def _watching(lab: Lab, *arguments: str) -> AsyncIterator[Watch]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "producers.labkeeper", "machines", "watch", *arguments, "--url", lab.url),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        watch = Watch(process)
        yield watch
        await watch.end()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_status_is_told(lab: Lab) -> None:
    await lab.machine("m", down_since=NOW)
    await lab.store.record("writer", {"0": NOW}, now=NOW)

    result = await labkeeper_beside("status", "-o", "json", LABKEEPER_URL=lab.url)

    assert result.code == 0, result.err
    assert (result.json["user"], result.json["role"], result.json["machines"]["down"]) == (
        "local",
        "admin",
        1,
    )


async def test_names_complete(lab: Lab) -> None:
    await lab.machine("rack4-07")
    await lab.machine("rack5-07")

    result = await labkeeper_beside(
        _LABKEEPER_COMPLETE="bash_complete",
        COMP_WORDS="labkeeper machines show rack4",
        COMP_CWORD="3",
        LABKEEPER_URL=lab.url,
    )

    assert result.out == "plain,rack4-07\n"


async def test_who_has_no_token_or_not_the_role_is_denied(tmp_path: Path) -> None:
    async with running(tokens=_token_file(tmp_path)) as lab:
        await lab.machine("m")
        nobody = await _machines(lab, "list")
        stranger = await _machines(lab, "list", LABKEEPER_TOKEN="lk_x")
        viewer = await _machines(lab, "list", "-o", "name", LABKEEPER_TOKEN="lk_v")
        meddling = await _machines(lab, "note", "m", "-m", "x", LABKEEPER_TOKEN="lk_v")
        operator = await _machines(lab, "note", "m", "-m", "x", LABKEEPER_TOKEN="lk_o")
        watching = await _machines(lab, "watch")

    assert (nobody.code, stranger.code, meddling.code, watching.code) == (4, 4, 4, 4)
    assert "--token-file" in nobody.err
    assert (viewer.code, viewer.lines, operator.code) == (0, ["m"], 0)


def _token_file(folder: Path) -> Path:
    tokens = folder / "tokens"
    tokens.write_text(f"viewer:vera:{hash_of('lk_v')}\noperator:otto:{hash_of('lk_o')}\n")
    return tokens
