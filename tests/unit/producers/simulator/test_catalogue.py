"""The simulated lab: the same seed gives the same machines."""

from __future__ import annotations

from producers.simulator.catalogue import Chromebook, furnish
from schemas.description import AttachedDevice
from schemas.ids import is_machine_id


def test_the_same_seed_furnishes_the_same_lab() -> None:
    assert furnish(50, seed=4) == furnish(50, seed=4)
    assert furnish(50, seed=4) != furnish(50, seed=5)


def test_a_bigger_lab_begins_with_the_smaller_one() -> None:
    assert furnish(60, seed=1)[:20] == furnish(20, seed=1)


def test_every_machine_has_an_id_of_its_own() -> None:
    ids = [machine.id for machine in furnish(1000, seed=0)]

    assert len(set(ids)) == 1000
    assert all(is_machine_id(machine_id) for machine_id in ids)


def test_ids_tell_rack_shelf_and_model() -> None:
    ids = [machine.id for machine in furnish(200, seed=1)]

    assert {machine_id.split("-")[0] for machine_id in ids} == {"rack1", "rack2", "rack3", "rack4", "rack5"}
    assert {machine_id.split("-")[1] for machine_id in ids} == {f"shelf{number}" for number in range(1, 6)}


def test_a_lab_has_every_kind_of_device() -> None:
    assert {machine.attached_device for machine in furnish(200, seed=1)} == set(AttachedDevice)


def test_a_few_machines_carry_a_note() -> None:
    assert 1 <= sum(machine.note != "" for machine in furnish(200, seed=1)) <= 20


def test_only_chromebooks_are_reached_by_ssh() -> None:
    for machine in furnish(200, seed=1):
        assert bool(machine.ssh_user_ip) is isinstance(machine.device, Chromebook)
