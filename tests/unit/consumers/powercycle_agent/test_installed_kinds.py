"""The configuration with the kinds that are really installed."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.powercycle_agent.configuration import Reading, read_configuration
from consumers.powercycle_agent.driver_listing import drivers_command
from consumers.powercycle_agent.entry_secrets import secrets_in
from consumers.powercycle_agent.registry import Registry

OLD = """{
  mpower: { strip: { address: "10.0.0.1", user: "ubnt", ports: { "skia-rpi-001": 1, "skia-rpi-001-device": 8 } } },
  edgeswitch: { sw1: { address: "10.0.0.2", user: "u", password: "p", ports: { "skia-e-linux-001": 48 } } },
  synaccess: { pdu: { address: "http://10.0.0.3", ports: { "skia-e-win-001": 1, "skia-e-win-002": 2 } } },
}"""
DOCUMENT = Path(__file__).parents[4] / "docs" / "power-configuration.md"

registry = cache(Registry.installed)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["10.0.0.1", "http://h", "http://h:99999", "http://[", "mqtt://h", "::1", "1.3.6.1", "%s", "{port}"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def reading(folder: Path, text: str) -> Reading:
    path = folder / "powercycle.json5"
    path.write_text(text)
    path.chmod(0o600)
    return read_configuration(path, registry())


def test_a_file_of_the_old_shape_is_read_unchanged(tmp_path: Path) -> None:
    found = reading(tmp_path, OLD)
    assert found.problems == []
    assert [(one.name, one.off_for.total_seconds()) for one in found.inventory.controllers] == [
        ("mpower/strip", 10),
        ("edgeswitch/sw1", 5),
        ("synaccess/pdu", 10),
    ]
    assert [one.soft_reboot is not None for one in found.inventory.controllers] == [False, True, False]


def test_the_documents_example_is_right(tmp_path: Path) -> None:
    example = re.search(r"```json5\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert example is not None
    found = reading(tmp_path, example[1])
    assert (found.problems, len(list(found.inventory))) == ([], 3)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('skia-rpi-001-device": 8', 'x": 9', "mpower/strip: invalid port for x (9)"),
        ('user: "ubnt"', 'user: ""', "mpower/strip: You must specify a user and ip address."),
        ('"skia-e-linux-001": 48', "a: 5, b: '5'", "edgeswitch/sw1: Port '5' specified more than once."),
    ],
)
def test_what_was_said_of_a_wrong_entry_still_is(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in OLD
    (problem,) = reading(tmp_path, OLD.replace(old, new)).problems
    assert problem.endswith(said)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(st.data())
def test_no_kinds_checks_break_whatever_an_entry_says(tmp_path: Path, data: st.DataObject) -> None:
    kind = registry().kind(data.draw(st.sampled_from(registry().names)))
    keys = list(kind.settings.model_fields)
    entry: dict[str, Any] = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=6))
    entry["ports"] = data.draw(
        st.dictionaries(st.sampled_from(["m1", "m2", "m3"]), VALUES, max_size=3) | VALUES
    )
    entry |= data.draw(st.sampled_from([{}, {"address": "10.0.0.1", "user": "u"}, {"address": "http://h"}]))
    for problem in reading(tmp_path, json.dumps({kind.name: {"it": entry}})).problems:
        assert problem.startswith(f"{tmp_path}/powercycle.json5:1: {kind.name}/it: ")
        assert "cannot read this entry" not in problem
        assert problem.isprintable()


def test_every_secret_of_every_kind_is_known_to_be_one() -> None:
    secret_keys = [
        (name, key)
        for name in registry().names
        for key, field in registry().kind(name).settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]
    assert ("edgeswitch", "password") in secret_keys
    for name, key in secret_keys:
        assert list(secrets_in({name: {"it": {key: "hunter2"}}})) == ["hunter2"], (name, key)


def test_no_key_that_only_says_where_a_secret_is_counts_as_one() -> None:
    for name in registry().names:
        for key, field in registry().kind(name).settings.model_fields.items():
            if "SecretStr" not in str(field.annotation):
                assert list(secrets_in({key: "/etc/x"})) == [], (name, key)


def test_every_kind_tells_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "installed", registry)
    for name in registry().names:
        told = CliRunner().invoke(drivers_command, [name], standalone_mode=False, catch_exceptions=False)
        assert told.stdout.startswith("KEY ")
