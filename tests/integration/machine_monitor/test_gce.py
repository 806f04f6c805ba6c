from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from producers.machine_monitor.probes.commands import CommandRunner
from producers.machine_monitor.probes.cpus import Cpu
from producers.machine_monitor.probes.gce import GceMetadata
from producers.machine_monitor.probes.host import HostProbe
from producers.machine_monitor.probes.protocol import ProbeFailed
from schemas.description import Description
from tests.integration.machine_monitor.tools import Toolbox

pytestmark = pytest.mark.integration

GOOGLE = {"Metadata-Flavor": "Google"}
FACTS = {
    "": "instance/\n",
    "instance/machine-type": "projects/123/machineTypes/n1-standard-16",
    "instance/cpu-platform": "Intel Haswell",
}


@asynccontextmanager
async def metadata_server(facts: dict[str, str], *, flavor: bool = True) -> AsyncIterator[GceMetadata]:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Metadata-Flavor"] == "Google"
        path = request.match_info["path"]
        if path not in facts:
            raise web.HTTPNotFound(headers=GOOGLE)
        return web.Response(text=facts[path], headers=GOOGLE if flavor else {})

    app = web.Application()
    app.router.add_get("/computeMetadata/v1/{path:.*}", answer)
    async with TestServer(app) as server:
        yield GceMetadata(host=f"{server.host}:{server.port}")


class Bare:
    """A system that names only its processor."""

    async def os_versions(self) -> list[str]:
        return ["Linux"]

    async def cpu(self) -> Cpu:
        return Cpu("GenuineIntel", "Intel(R) Xeon(R) CPU @ 2.30GHz")

    async def gpus(self) -> list[str]:
        return ["none"]


async def test_a_cloud_machine_tells_its_type_and_processor(toolbox: Toolbox) -> None:
    toolbox.add("docker", "exit 1")
    commands = CommandRunner(environment=toolbox.environment)
    async with metadata_server(FACTS) as metadata:
        probe = HostProbe(commands, Bare(), metadata, architecture="x86_64")
        answer = await probe.interrogate(Description())
    assert (answer.gce, answer.machine_type) == (True, "n1-standard-16")
    assert answer.cpus == ["x86", "x86-64", "x86-64-Haswell_GCE"]


async def test_a_cloud_machine_without_a_type_is_one_still(toolbox: Toolbox) -> None:
    toolbox.add("docker", "exit 1")
    commands = CommandRunner(environment=toolbox.environment)
    async with metadata_server({"": ""}) as metadata:
        probe = HostProbe(commands, Bare(), metadata, architecture="x86_64")
        answer = await probe.interrogate(Description())
    assert (answer.gce, answer.machine_type) == (True, "")
    assert answer.cpus == ["x86", "x86-64"]


async def test_another_web_server_at_the_address_is_no_cloud() -> None:
    async with metadata_server(FACTS, flavor=False) as metadata:
        assert not await metadata.is_here()


async def test_nobody_at_the_address_is_no_cloud() -> None:
    metadata = GceMetadata(host="127.0.0.1:1")
    assert not await metadata.is_here()
    with pytest.raises(ProbeFailed, match="did not answer"):
        await metadata.machine_type()
