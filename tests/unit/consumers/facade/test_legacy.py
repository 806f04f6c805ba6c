"""The old machine server's routes, as its Go clients know them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import StoreUnavailable
from pipeline.store.memory import MemoryStore
from schemas import envelope
from schemas.description import AttachedDevice
from tests.unit.consumers.facade.broken import AwayBroker, AwayStore
from tests.unit.consumers.facade.lab import NOW, Lab, running

ID = "rack4-07"
EVENT = b'{"type": "raw_state", "host": {"name": "rack4-07"},   "android": {"uptime": 5} }'


async def post(lab: Lab, path: str, document: Any = None, status: int = 200) -> str:
    data = b"" if document is None else json.dumps(document).encode()
    async with lab.http.post(path, data=data) as response:
        text = await response.text()
        assert response.status == status, text
    if status >= 400:
        assert response.content_type == "text/plain"
        assert text.endswith("\n")
    else:
        assert text == ""
    return text


async def test_toggling_the_mode_begins_and_ends_maintenance(lab: Lab) -> None:
    await lab.machine()
    await post(lab, f"/_/machine/toggle_mode/{ID}")
    machine = await lab.store.get(ID)
    assert machine.maintenance_mode == "local 2026-03-01T12:00:00Z"
    assert machine.annotation.message == "Enabled Maintenance Mode"
    assert machine.annotation.user == "local"
    assert machine.dimension("quarantined") == ["Maintenance: local 2026-03-01T12:00:00Z"]
    await post(lab, f"/_/machine/toggle_mode/{ID}")
    machine = await lab.store.get(ID)
    assert machine.maintenance_mode == ""
    assert machine.annotation.message == "Cleared Maintenance Mode."


async def test_toggling_the_power_cycle_asks_for_one_and_completing_it_ends_that(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await lab.machine("other")
    await post(lab, f"/_/machine/toggle_powercycle/{ID}")
    machine = await lab.store.get(ID)
    assert machine.power_cycle
    assert machine.annotation.message == 'Requested powercycle for "rack4-07"'
    async with lab.http.get("/json/v1/powercycle/list") as response:
        assert await response.read() == b'["rack4-07"]\n'
    await post(lab, f"/json/v1/powercycle/complete/{ID}")
    assert not (await lab.store.get(ID)).power_cycle


async def test_nothing_to_cycle_is_an_empty_list(lab: Lab) -> None:
    async with lab.http.get("/json/v1/powercycle/list") as response:
        assert await response.read() == b"[]\n"


async def test_keys_are_read_in_any_case_and_unknown_ones_ignored(lab: Lab) -> None:
    await lab.machine()
    await post(lab, f"/_/machine/set_attached_device/{ID}", {"attacheddevice": "ios", "Colour": "red"})
    assert (await lab.store.get(ID)).attached_device == AttachedDevice.IOS


@pytest.mark.parametrize("document", [{"AttachedDevice": "toaster"}, {"AttachedDevice": ""}, {}, [], "adb"])
async def test_only_known_kinds_of_device_can_be_attached(lab: Lab, document: Any) -> None:
    await lab.machine()
    text = await post(lab, f"/_/machine/set_attached_device/{ID}", document, 400)
    assert text.startswith(("AttachedDevice: ", "body: "))


async def test_removing_the_device_keeps_the_machine(lab: Lab) -> None:
    await lab.machine(dimensions={"id": [ID], "os": ["Android"]}, ssh_user_ip="root@dut", battery=50)
    await post(lab, f"/_/machine/remove_device/{ID}", {"ignored": True})
    machine = await lab.store.get(ID)
    assert machine.dimension("id") == [ID]
    assert machine.dimension("os") == []
    assert machine.battery == 50
    assert machine.annotation.message == 'Requested device removal of "rack4-07"'


async def test_a_machine_can_be_deleted(lab: Lab) -> None:
    await lab.machine()
    await post(lab, f"/_/machine/delete_machine/{ID}")
    await post(lab, f"/_/machine/delete_machine/{ID}", status=404)


async def test_a_note_counts_by_its_text_only(lab: Lab) -> None:
    await lab.machine()
    note = {"Message": "wobbly", "User": "eve", "Timestamp": "2020-01-01T00:00:00Z"}
    await post(lab, f"/_/machine/set_note/{ID}", note)
    machine = await lab.store.get(ID)
    assert (machine.note.message, machine.note.user, machine.note.timestamp) == ("wobbly", "local", NOW)


async def test_chromeos_dimensions_can_be_supplied(lab: Lab) -> None:
    await lab.machine()
    supplied = {"SSHUserIP": "root@dut-1", "SuppliedDimensions": {"gpu": ["mali"]}}
    await post(lab, f"/_/machine/supply_chromeos/{ID}", supplied)
    machine = await lab.store.get(ID)
    assert machine.ssh_user_ip == "root@dut-1"
    assert machine.supplied_dimensions == {"gpu": ["mali"]}
    assert machine.last_updated == NOW


async def test_nobody_can_make_a_machine_look_like_another(lab: Lab) -> None:
    await lab.machine()
    supplied = {"SSHUserIP": "root@dut-1", "SuppliedDimensions": {"gpu": ["mali"], "id": ["rack4-08"]}}
    text = await post(lab, f"/_/machine/supply_chromeos/{ID}", supplied, 400)
    assert text.startswith("SuppliedDimensions: the dimension id ")
    assert (await lab.store.get(ID)).ssh_user_ip == ""


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"SSHUserIP": "", "SuppliedDimensions": {"gpu": ["x"]}}, "Missing fields.\n"),
        ({"SSHUserIP": "dut", "SuppliedDimensions": {}}, "Missing fields.\n"),
        ({"SSHUserIP": "dut", "SuppliedDimensions": None}, "Missing fields.\n"),
        ({"SSHUserIP": "-oX=y", "SuppliedDimensions": {"gpu": ["x"]}}, "Invalid SSHUserIP format.\n"),
        ({"SSHUserIP": "dut\n", "SuppliedDimensions": {"gpu": ["x"]}}, "Invalid SSHUserIP format.\n"),
    ],
)
async def test_chromeos_dimensions_that_will_not_do_are_refused_in_the_old_words(
    lab: Lab, document: Any, text: str
) -> None:
    await lab.machine()
    assert await post(lab, f"/_/machine/supply_chromeos/{ID}", document, 400) == text


async def test_a_forced_quarantine_is_ended_without_annotation(lab: Lab) -> None:
    before = await lab.machine(is_quarantined=True)
    await post(lab, f"/_/machine/clear_quarantined/{ID}")
    machine = await lab.store.get(ID)
    assert not machine.is_quarantined
    assert machine.annotation == before.annotation


async def test_power_cycle_states_are_set_and_unknown_machines_skipped(lab: Lab) -> None:
    await lab.machine()
    await lab.machine("other")
    states = [
        {"MachineID": ID, "PowerCycleState": "available"},
        {"MachineID": "stranger", "PowerCycleState": "available"},
        {"MachineID": "other", "PowerCycleState": "in_error"},
    ]
    await post(lab, "/json/v1/powercycle/state/update", {"Machines": states})
    assert (await lab.store.get(ID)).power_cycle_state == "available"
    assert (await lab.store.get("other")).power_cycle_state == "in_error"
    assert len((await lab.store.list()).machines) == 2


@pytest.mark.parametrize("document", [{"Machines": None}, {}, {"Machines": []}])
async def test_no_power_cycle_states_are_fine(lab: Lab, document: Any) -> None:
    await post(lab, "/json/v1/powercycle/state/update", document)


async def test_power_cycle_states_are_a_closed_set(lab: Lab) -> None:
    states = [{"MachineID": ID, "PowerCycleState": "maybe"}]
    text = await post(lab, "/json/v1/powercycle/state/update", {"Machines": states}, 400)
    assert text.startswith("Machines.0.PowerCycleState: ")


@pytest.mark.parametrize("path", ["/json/v1/machine/event/", "/json/v1/machine/event"])
async def test_an_event_is_published_as_it_came(lab: Lab, path: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with lab.http.post(path, data=EVENT, headers={"traceparent": trace}) as response:
        assert (response.status, await response.read()) == (200, b"")
    (published,) = await lab.published_events()
    assert published.value == EVENT
    assert published.key == ID
    assert published.headers[envelope.TYPE] == envelope.EVENT_TYPE
    assert published.headers[envelope.SOURCE] == "/facade"
    assert published.headers[envelope.TRACE_PARENT] == trace


async def test_a_trace_that_is_none_is_left_out(lab: Lab) -> None:
    async with lab.http.post(
        "/json/v1/machine/event/", data=EVENT, headers={"traceparent": "x" * 1000}
    ) as response:
        assert response.status == 200
    (published,) = await lab.published_events()
    assert envelope.TRACE_PARENT not in published.headers


async def test_an_event_that_the_broker_does_not_have_is_not_accepted() -> None:
    async with running(broker=AwayBroker()) as lab:
        async with lab.http.post("/json/v1/machine/event/", data=EVENT) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert response.content_type == "text/plain"
        async with lab.http.post("/api/v1/events", json=json.loads(EVENT)) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"


async def test_all_machines_are_listed_by_id_and_none_is_an_empty_list(lab: Lab) -> None:
    async with lab.http.get("/_/machines") as response:
        assert await response.read() == b"[]\n"
    await lab.machine("b")
    await lab.machine("a", recovering="<hot>")
    async with lab.http.get("/_/machines") as response:
        text = await response.read()
    assert [each["Dimensions"]["id"] for each in json.loads(text)] == [["a"], ["b"]]
    assert b"\\u003chot\\u003e" in text
    assert text.endswith(b"]\n")


async def test_a_large_fleet_is_listed_page_by_page(lab: Lab) -> None:
    await lab.store.update_many(
        {f"m-{number:04}": [lambda before: before.model_copy()] for number in range(2100)}, now=NOW
    )
    async with lab.http.get("/_/machines") as response:
        ids = [each["Dimensions"]["id"][0] for each in json.loads(await response.read())]
    assert ids == [f"m-{number:04}" for number in range(2100)]


async def test_a_description_is_answered_and_an_unknown_machine_is_404(lab: Lab) -> None:
    await lab.machine()
    async with lab.http.get(f"/json/v1/machine/description/{ID}") as response:
        assert json.loads(await response.read())["Dimensions"]["id"] == [ID]
    async with lab.http.get("/json/v1/machine/description/stranger") as response:
        assert (response.status, await response.text()) == (404, "there is no machine 'stranger'\n")


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("POST", f"/_/machine/toggle_mode/{ID}", "Failed to update machine.\n"),
        ("POST", f"/json/v1/powercycle/complete/{ID}", "Failed to update machine.\n"),
        ("POST", f"/_/machine/delete_machine/{ID}", "Failed to delete machine.\n"),
        ("GET", "/_/machines", "Failed to read from datastore\n"),
        ("GET", "/json/v1/powercycle/list", "Failed to read from datastore\n"),
        ("GET", f"/json/v1/machine/description/{ID}", "Failed to read from datastore\n"),
    ],
)
async def test_a_store_that_is_away_is_told_in_the_old_words(method: str, path: str, text: str) -> None:
    async with running(store=AwayStore()) as lab, lab.http.request(method, path) as response:
        assert (response.status, await response.text()) == (500, text)


async def test_dimensions_that_cannot_be_stored_are_told_in_the_old_words() -> None:
    supplied = {"SSHUserIP": "root@dut-1", "SuppliedDimensions": {"gpu": ["mali"]}}
    async with running(store=AwayStore()) as lab:
        text = await post(lab, f"/_/machine/supply_chromeos/{ID}", supplied, 500)
    assert text == "Failed to process dimensions.\n"


async def test_states_before_a_failing_one_stay() -> None:
    class FailsAtSecond(MemoryStore):
        async def update(self, machine_id: str, *arguments: Any, **options: Any) -> Any:
            if machine_id == "b" and not options.get("create"):
                raise StoreUnavailable("gone")
            return await super().update(machine_id, *arguments, **options)

    async with running(store=FailsAtSecond()) as lab:
        for machine_id in ("a", "b"):
            await lab.machine(machine_id)
        states = [{"MachineID": each, "PowerCycleState": "available"} for each in ("a", "b")]
        await post(lab, "/json/v1/powercycle/state/update", {"Machines": states}, 500)
        assert (await lab.store.get("a")).power_cycle_state == "available"


@pytest.mark.parametrize(
    "path", ["/_/machine/toggle_mode/", "/_/machine/toggle_mode", "/json/v1/machine/description/"]
)
async def test_a_path_without_an_id_does_not_exist(lab: Lab, path: str) -> None:
    async with lab.http.post(path) as response:
        assert response.status in {404, 405}
        assert response.content_type == "text/plain"


async def test_reading_with_post_and_changing_with_get_do_not_exist(lab: Lab) -> None:
    async with lab.http.post("/_/machines") as response:
        assert response.status == 405
    async with lab.http.get(f"/_/machine/toggle_mode/{ID}") as response:
        assert response.status == 405


@pytest.mark.parametrize("path", ["/loginstatus/", "/loginstatus"])
async def test_the_login_status_of_an_open_server_is_an_editors(lab: Lab, path: str) -> None:
    async with lab.http.get(path) as response:
        assert (
            await response.read() == b'{"email":"barney@example.org","roles":["viewer","editor","admin"]}\n'
        )


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_health_is_an_empty_answer_to_any_method(lab: Lab, method: str) -> None:
    async with lab.http.request(method, "/healthz") as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("query", "last_event_id", "says"),
    [("", None, "?stream="), ("?stream=", None, "?stream="), (f"?stream={ID}", "x", "Last-Event-ID")],
)
async def test_a_stream_that_cannot_be_is_refused(
    lab: Lab, query: str, last_event_id: str | None, says: str
) -> None:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with lab.http.get(f"/json/v1/machine/sse/description/updated{query}", headers=headers) as response:
        assert response.status == 400
        assert says in await response.text()
