"""Changes to a version that the caller has seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.consumers.facade.lab import Lab

ONE = "/api/v1/machines/rack4-07"
CHANGES: list[tuple[str, str, Any]] = [
    ("DELETE", "", None),
    ("PUT", "/maintenance", {}),
    ("DELETE", "/maintenance", None),
    ("DELETE", "/quarantine", None),
    ("PUT", "/power", {"action": "cycle"}),
    ("POST", "/power", {"action": "on"}),
    ("DELETE", "/power", None),
    ("PUT", "/attached-device", {"attached_device": "ios"}),
    ("PUT", "/note", {"message": "x"}),
    ("DELETE", "/note", None),
    ("PUT", "/supplied-dimensions", {"ssh_user_ip": "a", "dimensions": {"gpu": ["x"]}}),
    ("DELETE", "/device", None),
]


async def changed(lab: Lab, method: str, path: str, sent: Any = None, if_match: str | None = None) -> Any:
    """Status and document."""
    headers = {} if if_match is None else {"If-Match": if_match}
    async with lab.http.request(method, ONE + path, json=sent, headers=headers) as response:
        text = await response.read()
        return response.status, json.loads(text) if text else None


@pytest.mark.parametrize(("method", "path", "sent"), CHANGES)
async def test_a_machine_that_has_changed_meanwhile_is_left_alone(
    lab: Lab, method: str, path: str, sent: Any
) -> None:
    seen = await lab.machine(power_cycle_state="available")
    now = await lab.machine(battery=5)
    status, problem = await changed(lab, method, path, sent, f'"{seen.row_version}"')
    assert (status, problem["title"]) == (412, "Precondition Failed")
    assert f"is in version {now.row_version}" in problem["detail"]
    assert await lab.store.get("rack4-07") == now


@pytest.mark.parametrize(("method", "path", "sent"), CHANGES)
@pytest.mark.parametrize("if_match", ['"{}"', '"999", "{}"', "*"])
async def test_a_machine_is_changed_in_the_version_that_was_seen(
    lab: Lab, method: str, path: str, sent: Any, if_match: str
) -> None:
    seen = await lab.machine(power_cycle_state="available")
    status, _ = await changed(lab, method, path, sent, if_match.format(seen.row_version))
    assert status in {200, 202, 204}


@pytest.mark.parametrize("if_match", ['W/"1"', "1", '"x"', '""', "", '"' + "9" * 5000 + '"', '"¹"'])
async def test_what_is_no_version_of_ours_matches_none(lab: Lab, if_match: str) -> None:
    machine = await lab.machine()
    assert machine.row_version == 1
    assert (await changed(lab, "PUT", "/note", {"message": "x"}, if_match))[0] == 412


async def test_a_machine_that_is_unknown_matches_no_version(lab: Lab) -> None:
    for method, path in (("DELETE", ""), ("DELETE", "/note")):
        assert (await changed(lab, method, path, None, '"1"'))[0] == 404


async def test_the_precondition_is_in_the_documents(lab: Lab) -> None:
    async with lab.http.get("/openapi.json") as response:
        api = json.loads(await response.read())
    operation = api["paths"]["/api/v1/machines/{id}/note"]["put"]
    assert "412" in operation["responses"]
    assert "If-Match" in {each["name"] for each in operation["parameters"]}
