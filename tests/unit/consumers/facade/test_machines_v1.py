"""The new routes."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from pipeline.store.memory import MemoryStore
from pipeline.store.protocol import SortKey, Updated
from schemas.api import ListParameters
from schemas.health import Health
from tests.unit.consumers.facade.broken import AwayStore
from tests.unit.consumers.facade.lab import NOW, Lab, running

ONE = "/api/v1/machines/rack4-07"


async def body(response: Any) -> Any:
    return json.loads(await response.read())


async def test_a_machine_is_answered_with_its_version_as_etag(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.get(ONE) as response:
        machine = await body(response)
    assert response.status == 200
    assert machine["Dimensions"]["id"] == ["rack4-07"]
    assert response.headers["ETag"] == f'"{machine["RowVersion"]}"'
    for known in (response.headers["ETag"], "W/" + response.headers["ETag"]):
        async with lab.http.get(ONE, headers={"If-None-Match": known}) as again:
            assert again.status == 304
    async with lab.http.get(ONE, headers={"If-None-Match": '"0"'}) as again:
        assert again.status == 200


async def test_an_unknown_machine_is_a_problem_document(lab: Lab) -> None:
    async with lab.http.get(ONE) as response:
        problem = await body(response)
    assert response.status == 404
    assert response.content_type == "application/problem+json"
    assert problem == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no machine 'rack4-07'",
        "instance": ONE,
    }


async def test_answers_are_spelled_as_go_would(lab: Lab) -> None:
    await lab.machine(recovering="a<b>&c")
    async with lab.http.get(ONE) as response:
        text = await response.read()
    assert b'"Recovering":"a\\u003cb\\u003e\\u0026c"' in text
    assert text.endswith(b"}\n")


async def test_maintenance_can_be_begun_and_ended_and_repeating_changes_nothing(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.put(ONE + "/maintenance", json={"reason": "new cable"}) as response:
        first = await body(response)
    assert first["MaintenanceMode"] == "local 2026-03-01T12:00:00Z new cable"
    assert response.headers["ETag"] == f'"{first["RowVersion"]}"'
    async with lab.http.put(ONE + "/maintenance", json={"reason": "again"}) as response:
        assert (await body(response))["RowVersion"] == first["RowVersion"]
    async with lab.http.delete(ONE + "/maintenance") as response:
        assert (await body(response))["MaintenanceMode"] == ""


async def test_a_forced_quarantine_can_be_ended(lab: Lab) -> None:
    await lab.machine(is_quarantined=True)
    async with lab.http.delete(ONE + "/quarantine") as response:
        assert (await body(response))["IsQuarantined"] is False


async def test_the_attached_device_can_be_set_and_the_set_is_closed(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.put(ONE + "/attached-device", json={"attached_device": "adb"}) as response:
        assert (await body(response))["AttachedDevice"] == "adb"
    async with lab.http.put(ONE + "/attached-device", json={"attached_device": "toaster"}) as response:
        problem = await body(response)
    assert response.status == 422
    assert problem["errors"][0]["field"] == "attached_device"


async def test_a_note_can_be_left_and_taken_away(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.put(ONE + "/note", json={"message": "wobbly"}) as response:
        assert (await body(response))["Note"] == {
            "Message": "wobbly",
            "User": "local",
            "Timestamp": "2026-03-01T12:00:00Z",
        }
    async with lab.http.delete(ONE + "/note") as response:
        assert (await body(response))["Note"]["Message"] == ""


async def test_dimensions_can_be_supplied_and_the_device_removed(lab: Lab) -> None:
    await lab.machine()
    supplied = {"ssh_user_ip": "root@dut-1", "dimensions": {"gpu": ["mali"]}}
    async with lab.http.put(ONE + "/supplied-dimensions", json=supplied) as response:
        machine = await body(response)
    assert machine["SSHUserIP"] == "root@dut-1"
    assert machine["SuppliedDimensions"] == {"gpu": ["mali"]}
    async with lab.http.delete(ONE + "/device") as response:
        machine = await body(response)
    assert machine["SSHUserIP"] == ""
    assert machine["Dimensions"]["id"] == ["rack4-07"]


async def test_nobody_can_make_a_machine_look_like_another(lab: Lab) -> None:
    await lab.machine()
    supplied = {"ssh_user_ip": "root@dut-1", "dimensions": {"gpu": ["mali"], "id": ["rack4-08"]}}
    async with lab.http.put(ONE + "/supplied-dimensions", json=supplied) as response:
        problem = await body(response)
    assert response.status == 422
    assert problem["errors"][0]["field"].startswith("dimensions.id")
    assert (await lab.store.get("rack4-07")).ssh_user_ip == ""


@pytest.mark.parametrize("target", ["-oProxyCommand=x", "; ls", "host:22", "dut\n", ""])
async def test_an_ssh_target_that_could_be_an_option_is_refused(lab: Lab, target: str) -> None:
    await lab.machine()
    supplied = {"ssh_user_ip": target, "dimensions": {"gpu": ["mali"]}}
    async with lab.http.put(ONE + "/supplied-dimensions", json=supplied) as response:
        problem = await body(response)
    assert response.status == 422
    assert problem["errors"][0]["field"] == "ssh_user_ip"


async def test_a_machine_can_be_deleted_once(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.delete(ONE) as response:
        assert response.status == 204
    async with lab.http.delete(ONE) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("PUT", "/maintenance", {}),
        ("DELETE", "/maintenance", None),
        ("DELETE", "/quarantine", None),
        ("PUT", "/attached-device", {"attached_device": "ios"}),
        ("PUT", "/note", {"message": "x"}),
        ("DELETE", "/note", None),
        ("PUT", "/supplied-dimensions", {"ssh_user_ip": "a", "dimensions": {"gpu": ["x"]}}),
        ("DELETE", "/device", None),
    ],
)
async def test_no_action_makes_a_machine_that_is_unknown(lab: Lab, method: str, path: str, sent: Any) -> None:
    async with lab.http.request(method, ONE + path, json=sent) as response:
        assert response.status == 404, await response.text()
    assert list((await lab.store.list()).machines) == []


async def test_machines_are_listed_by_pages_filtered_and_sorted(lab: Lab) -> None:
    for number in range(5):
        await lab.machine(f"m-{number}", battery=number, is_quarantined=number == 3)
    async with lab.http.get("/api/v1/machines?limit=3&sort=battery&order=desc") as response:
        first = await body(response)
    assert [each["Battery"] for each in first["machines"]] == [4, 3, 2]
    cursor = {"limit": "3", "sort": "battery", "order": "desc", "cursor": first["next_cursor"]}
    async with lab.http.get("/api/v1/machines", params=cursor) as response:
        second = await body(response)
    assert [each["Battery"] for each in second["machines"]] == [1, 0]
    assert second["next_cursor"] is None
    async with lab.http.get("/api/v1/machines?health=quarantined&dimension=id:m-3&q=M-3") as response:
        assert [each["Battery"] for each in (await body(response))["machines"]] == [3]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=NaN", "limit"),
        ("limit=1&limit=2", "limit"),
        ("sort=colour", "sort"),
        ("order=up", "order"),
        ("health=fine", "health.0"),
        ("attached_device=toaster", "attached_device"),
        ("dimension=nocolon", "dimension.0"),
        ("dimension=:x", "dimension.0"),
        ("dimension=a:1&dimension=a:2", "dimension"),
        ("cursor=bm90IG91cnM", "cursor"),
        ("cursor=%00", "cursor"),
        ("q=%00", "q"),
        ("q=" + "x" * 501, "q"),
        ("colour=red", "colour"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_by_name(lab: Lab, query: str, field: str) -> None:
    async with lab.http.get(f"/api/v1/machines?{query}") as response:
        problem = await body(response)
    assert response.status == 422
    assert problem["errors"][0]["field"] == field


async def test_history_is_read_newest_first_by_pages(lab: Lab) -> None:
    await lab.machine()
    for message in ("one", "two", "three"):
        async with lab.http.put(ONE + "/note", json={"message": message}):
            pass
    async with lab.http.get(ONE + "/history?limit=2") as response:
        page = await body(response)
    assert [entry["after"] for entry in page["entries"]] == ["three", "two"]
    assert page["entries"][0]["who"] == "local"
    async with lab.http.get(ONE + f"/history?limit=2&before={page['next_before']}") as response:
        page = await body(response)
    assert [entry["after"] for entry in page["entries"]][:1] == ["one"]


async def test_the_reason_of_maintenance_is_in_the_history(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.put(ONE + "/maintenance", json={"reason": "new cable"}):
        pass
    history = await lab.store.history("rack4-07")
    assert history[0].why == "new cable"


async def test_an_open_server_says_that_anybody_is_an_admin(lab: Lab) -> None:
    async with lab.http.get("/api/v1/whoami") as response:
        assert await body(response) == {"user": "local", "role": "admin"}


async def test_long_answers_are_compressed_for_those_who_can_read_it(lab: Lab) -> None:
    for number in range(30):
        await lab.machine(f"m-{number}")
    async with lab.http.get("/api/v1/machines") as response:
        assert response.headers["Content-Encoding"] in {"gzip", "deflate"}
        assert len((await body(response))["machines"]) == 30


async def test_a_path_or_method_that_is_not_there_is_a_problem_document(lab: Lab) -> None:
    async with lab.http.get("/api/v1/nothing") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
    async with lab.http.patch(ONE) as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
        assert "DELETE" in response.headers["Allow"]


async def test_unknown_keys_are_refused_because_they_may_be_typing_mistakes(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.put(ONE + "/maintenance", json={"raeson": "x"}) as response:
        assert response.status == 422
        assert (await body(response))["errors"][0]["field"] == "raeson"


async def test_each_action_leaves_a_line_for_the_audit(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    await lab.machine()
    async with lab.http.put(ONE + "/note", json={"message": "x"}):
        pass
    async with lab.http.delete("/api/v1/machines/nobody"):
        pass
    lines = [line for line in capsys.readouterr().out.splitlines() if "audit" in line]
    assert "action=set-note" in lines[0]
    assert "machine=rack4-07" in lines[0]
    assert "outcome=done" in lines[0]
    assert "action=delete-machine" in lines[1]
    assert "outcome=failed" in lines[1]


async def test_an_action_that_takes_too_long_is_broken_off_and_its_outcome_called_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class StuckStore(MemoryStore):
        async def update(self, *_arguments: Any, **_options: Any) -> Updated:
            await asyncio.Event().wait()
            raise AssertionError

    patience = timedelta(seconds=0.05)
    async with (
        running(store=StuckStore(), request_timeout=patience) as lab,
        lab.http.delete(ONE + "/maintenance") as response,
    ):
        assert response.status == 503
    assert "outcome=unknown" in capsys.readouterr().out


def test_the_closed_sets_of_a_listing_are_the_stores() -> None:
    properties = ListParameters.model_json_schema()["properties"]
    assert properties["sort"]["enum"] == [key.value for key in SortKey]
    assert properties["health"]["items"]["enum"] == [state.value for state in Health]


async def test_a_change_of_another_process_is_seen_at_once(lab: Lab) -> None:
    await lab.store.update(
        "rack4-07", lambda before: before.model_copy(update={"battery": 5}), now=NOW, create=True
    )
    async with lab.http.get(ONE) as response:
        assert (await body(response))["Battery"] == 5


async def test_a_store_that_is_away_is_503_with_a_time_to_come_back() -> None:
    async with running(store=AwayStore()) as lab:
        async with lab.http.get(ONE) as response:
            problem = await body(response)
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert "out of reach" in problem["detail"]
