"""`powercycle.json5`: what is read, and what is said about what cannot be."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.powercycle_agent.configuration import Reading, read_configuration, read_inventory
from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.settings import ControllerSettings, SoftReboot
from consumers.powercycle_agent.inventory import Inventory
from consumers.powercycle_agent.registry import Registry
from pipeline.errors import Misconfigured
from tests.unit.consumers.powercycle_agent.kinds import kinds

OLD = """
{
  // Rack 1 of the lab.
  mpower: {
    "strip": { address: "10.0.0.1", user: "ubnt", ports: { "skia-rpi-001": 1, "skia-rpi-001-device": 8, }, },
  },
  edgeswitch: {
    sw1: {
      address: "10.0.0.2", user: "ubnt", password: "hunter2",
      ports: { "skia-e-linux-001": 48, "skia-e-linux-000": 7 },
    },
  },
}
"""


def write(folder: Path, text: str | bytes, *, mode: int = 0o600) -> Path:
    path = folder / "powercycle.json5"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def reading(folder: Path, text: str | bytes, registry: Registry | None = None) -> Reading:
    return read_configuration(write(folder, text), registry or kinds())


def inventory(folder: Path, text: str) -> Inventory:
    found = reading(folder, text)
    assert found.problems == []
    return found.inventory


def refusal(folder: Path, text: str | bytes) -> list[str]:
    """Lines of the refusal, without the folder."""
    with pytest.raises(Misconfigured) as refused:
        reading(folder, text)
    return str(refused.value).replace(f"{folder}/", "").splitlines()


def problem(folder: Path, entry: str, registry: Registry | None = None) -> str:
    """What is wrong with the switch `sw1`, which stands on line 1."""
    (text,) = problems(folder, entry, registry)
    return text


def problems(folder: Path, entry: str, registry: Registry | None = None) -> list[str]:
    """The same, where it may be more."""
    found = reading(folder, f"{{ edgeswitch: {{ sw1: {entry} }} }}", registry)
    return [text.replace(f"{folder}/", "") for text in found.problems]


def test_a_file_of_the_old_shape_is_read_unchanged(tmp_path: Path) -> None:
    read = inventory(tmp_path, OLD)
    strip, switch = read.controllers
    assert (strip.name, switch.name) == ("mpower/strip", "edgeswitch/sw1")
    assert dict(strip.ports) == {"skia-rpi-001": "1", "skia-rpi-001-device": "8"}
    assert list(switch.ports) == ["skia-e-linux-000", "skia-e-linux-001"]
    assert [outlet.machine_id for outlet in read] == sorted([*strip.ports, *switch.ports])
    assert (strip.off_for, switch.off_for) == (timedelta(seconds=10), timedelta(seconds=5))
    assert (strip.soft_reboot, switch.soft_reboot) == (None, SoftReboot())


@pytest.mark.parametrize(
    "text", ["{}", "{ edgeswitch: {} }", "{ edgeswitch: null, mpower: {} }", " {\n} // none"]
)
def test_a_rack_without_controllers_is_one(tmp_path: Path, text: str) -> None:
    assert inventory(tmp_path, text).controllers == ()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("soft_reboot: false", None),
        ("soft_reboot: true", SoftReboot()),
        ("soft_reboot: { user: 'chrome-bot', wait_s: 60 }", SoftReboot(user="chrome-bot", wait_s=60)),
    ],
)
def test_an_entry_says_how_its_machines_are_cycled(
    tmp_path: Path, said: str, expected: SoftReboot | None
) -> None:
    text = f"{{ edgeswitch: {{ sw1: {{ address: 'a', user: 'u', ports: {{}}, delay: 2.5, {said} }} }} }}"
    (controller,) = inventory(tmp_path, text).controllers
    assert controller.off_for == timedelta(seconds=2.5)
    assert controller.soft_reboot == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n  edgeswitch: {\n", "powercycle.json5, line 2, column 15: no JSON5: "),
        ("", "powercycle.json5, line 1, column 1: no JSON5: "),
        ("[" * 10_000, "powercycle.json5, line 1, column 3"),
        ("[]", "powercycle.json5: expected an object"),
        (b"{\n\xff}", "powercycle.json5 is not UTF-8 text"),
        (b" " * 5_000_000, "powercycle.json5 is larger than 4194304 bytes"),
        ("{ edgeswitch: 5 }", "powercycle.json5:1: edgeswitch: expected an object of controllers"),
        ("{ edgeswitch: { '\\u001b[2J': {} } }", "a label has 1 to 100 printable characters"),
        (
            "{\n edge_switch: {} }",
            "powercycle.json5:2: edge_switch: there is no kind of controller with this name (did you mean edgeswitch?)",
        ),
        ("{ x: {} }", "x: there is no kind of controller with this name; there are: edgeswitch, mpower"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    (line,) = refusal(tmp_path, text)
    assert said in line


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*gone: No such file"):
        read_inventory(tmp_path / "gone", kinds())
    with pytest.raises(Misconfigured, match="Is a directory"):
        read_inventory(tmp_path, kinds())


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = """{
      mpower: { strip: { address: "a", ports: { "rpi-1": 1, "rpi-2": 2 } } },
      toaster: {},
      edgeswitch: {
        sw1: { address: "b", user: "u", ports: { "rpi-1": 1 } },
        sw1: { address: "c", ports: { "rpi-3": 3, "rpi-3": 4, "rpi-2": 5 } },
      },
    }"""
    already = "ports: Device 'rpi-{}' already exists. It {}, too: a machine has one port"
    assert refusal(tmp_path, text) == [
        "powercycle.json5:3: toaster: there is no kind of controller with this name; there are: edgeswitch, mpower",
        "powercycle.json5:6: edgeswitch/sw1: the same name twice. It stands on line 5, too: rename or remove one",
        f"powercycle.json5:6: edgeswitch/sw1: {already.format(3, 'stands on line 6')}",
        f"powercycle.json5:6: edgeswitch/sw1: {already.format(2, 'hangs on mpower/strip (line 2)')}",
    ]


def test_a_machine_of_a_broken_controller_still_counts(tmp_path: Path) -> None:
    text = "{ mpower: { s: { ports: { m: 1 } } }, edgeswitch: { e: { address: 'a', user: 'u', ports: { m: 1 } } } }"
    (line,) = refusal(tmp_path, text)
    assert "edgeswitch/e: ports: Device 'm' already exists. It hangs on mpower/s (line 1), too" in line


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{ user: 'u', ports: {} }", "powercycle.json5:1: edgeswitch/sw1: address: missing: add address: …"),
        ("{ address: 'a', user: 'u' }", "edgeswitch/sw1: ports: missing: add ports: …"),
        (
            "{ adress: 'a', user: 'u', ports: {}, address: 'b' }",
            "edgeswitch/sw1: adress: unknown key (did you mean address?); there are: address, delay, password, ",
        ),
        (
            "{ address: 'a', user: 'u', ports: {}, zzz: 1 }",
            "zzz: unknown key; there are: address, delay, password, ",
        ),
        (
            "{ address: 'a', user: 'u', ports: { m: 1, n: 1 } }",
            "edgeswitch/sw1: Port '1' specified more than once.",
        ),
        (
            "{ address: 'a', user: 'u', ports: { m: null } }",
            "edgeswitch/sw1: ports.m: should be a port: a number or a text",
        ),
        (
            "{ address: 'a', user: 'u', ports: { m: 1.5 } }",
            "edgeswitch/sw1: ports.m: should be a port: a number or a text",
        ),
        (f"{{ address: 'a', user: 'u', ports: {{ m: 0x{'f' * 5000} }} }}", "edgeswitch/sw1: ports.m: "),
        (
            "{ address: 'a', user: 'u', ports: [] }",
            "edgeswitch/sw1: ports: should be an object of machines and ports, such as",
        ),
        (
            "{ address: 'a', user: 'u', ports: { 'bad id': 1 } }",
            "edgeswitch/sw1: ports: 'bad id' cannot be a machine's id: that has 1 to 128 letters, digits",
        ),
        ("{ address: 5, user: 'u', ports: {} }", "edgeswitch/sw1: address: should be a valid string"),
        ("{ address: 'a', user: 'u', user: 'v', ports: {} }", "edgeswitch/sw1: user: the same key twice"),
        ("{ address: 'a', user: 'u', ports: {}, delay: NaN }", "edgeswitch/sw1: delay: "),
        ("{ address: 'a', user: 'u', ports: {}, delay: Infinity }", "edgeswitch/sw1: delay: "),
        ("{ address: 'a', user: 'u', ports: {}, delay: 0 }", "delay: should be greater than 0"),
        ("{ address: 'a', user: 'u', ports: {}, retries: 9 }", "retries: should be less than or equal to 5"),
        (
            "{ address: 'a', user: 'u', ports: {}, soft_reboot: { wait_s: -1 } }",
            "edgeswitch/sw1: soft_reboot.wait_s: should be greater than 0",
        ),
        (
            "{ address: 'a', user: 'u', ports: {}, soft_reboot: { wait: 1 } }",
            "edgeswitch/sw1: soft_reboot.wait: unknown key",
        ),
        ("'10.0.0.1'", "edgeswitch/sw1: expected an object"),
        ("null", "edgeswitch/sw1: expected an object"),
    ],
)
def test_a_broken_entry_says_where_and_what_to_do(tmp_path: Path, entry: str, said: str) -> None:
    text = problem(tmp_path, entry)
    assert text.startswith("powercycle.json5:1: edgeswitch/sw1: ")
    assert said in text
    assert "\n" not in text


def test_each_thing_that_is_wrong_with_an_entry_is_said_once(tmp_path: Path) -> None:
    entry = "{\n user: 5,\n soft_reboot: { wait_s: -1 } }"
    assert problems(tmp_path, entry) == [
        "powercycle.json5:1: edgeswitch/sw1: ports: missing: add ports: …",
        "powercycle.json5:1: edgeswitch/sw1: address: missing: add address: …",
        "powercycle.json5:2: edgeswitch/sw1: user: should be a valid string",
        "powercycle.json5:3: edgeswitch/sw1: soft_reboot.wait_s: should be greater than 0",
    ]
    (controller,) = reading(tmp_path, f"{{ edgeswitch: {{ sw1: {entry} }} }}").inventory.controllers
    assert len(controller.problem.split("; ")) == 4  # reports have one line


def test_a_broken_controller_still_has_its_machines_and_the_others_work(tmp_path: Path) -> None:
    text = """{
      mpower: { strip: { address: "a", ports: { "rpi-1": 9, "rpi-2": 2, "bad id": 3, "rpi-4": {} } } },
      edgeswitch: { sw1: { address: "b", user: "u", ports: { "rpi-3": 1 } } },
    }"""
    found = reading(tmp_path, text)
    strip, switch = found.inventory.controllers
    assert dict(strip.ports) == {"rpi-1": "9", "rpi-2": "2"}
    assert (strip.driver, strip.settings) == (None, None)
    assert switch.problem == ""
    assert switch.driver is not None
    assert found.inventory.outlet("rpi-1") is not None
    assert "; ".join(found.problems) == strip.problem


def test_a_driver_that_is_broken_spoils_only_its_controllers(tmp_path: Path) -> None:
    class Angry(ControllerSettings):
        address: str

        def model_post_init(self, _context: Any) -> None:
            raise LookupError(f"boo {self.address}")

    def opener(*_: Any) -> Any:
        raise AssertionError("an entry that cannot be read opens no driver")

    registry = Registry(
        {"edgeswitch": DriverKind("edgeswitch", Angry, opener), "mpower": kinds().kind("mpower")}
    )
    text = problem(tmp_path, "{ address: 'hunter2', ports: {} }", registry)
    assert text.endswith(
        "edgeswitch/sw1: the driver 'edgeswitch' cannot read this entry (LookupError): tell whoever made the driver"
    )


@pytest.mark.parametrize(
    "entry",
    [
        "{ password: 'hunter2', passwrd: 'hunter2', ports: { 'hunter2 x': 1 } }",
        "{ address: 'a', user: 'u', password: { deep: 'hunter2' }, ports: {} }",
        "{ address: 'a', user: 'u', password: ['hunter2'], ports: {} }",
        "'hunter2'",
    ],
)
def test_a_password_is_never_repeated(tmp_path: Path, entry: str) -> None:
    said = "\n".join(problems(tmp_path, entry))
    assert "sw1" in said
    assert "hunter2" not in said.replace("'hunter2 x'", "")


def test_a_password_that_a_drivers_own_check_repeats_is_blotted_out(tmp_path: Path) -> None:
    class Chatty(ControllerSettings):
        password: str
        url: str

        def model_post_init(self, _context: Any) -> None:
            raise ValueError(f"{self.password} does not open {self.url}")

    registry = Registry({"edgeswitch": DriverKind("edgeswitch", Chatty, lambda *_: None)})  # type: ignore[arg-type]
    text = problem(tmp_path, "{ password: 'hunter2', url: 'http://me:s3cret@host', ports: {} }", registry)
    assert text.endswith("edgeswitch/sw1: … does not open http://me:…@host")


@pytest.mark.parametrize("text", ["{ a: 'hunter2", "{ password: hunter2 }", "{ password: 'hunter2' 1 }"])
def test_a_syntax_error_shows_nothing_of_a_password(tmp_path: Path, text: str) -> None:
    (line,) = refusal(tmp_path, text)
    assert "hunter" not in line


@pytest.mark.parametrize(
    ("mode", "text", "warned"),
    [
        (0o644, OLD, True),
        (0o640, OLD, False),
        (0o644, OLD.replace("hunter2", ""), False),
        (0o644, "{ edgeswitch: { s: { address: 'http://u:p@h', user: 'u', ports: {} } } }", True),
        (0o644, "{ edgeswitch: { s: { address: 'h', user: 'u', password_file: '/x', ports: {} } } }", False),
    ],
)
def test_a_file_with_passwords_that_everybody_can_read_is_warned_of(
    tmp_path: Path, mode: int, text: str, warned: bool
) -> None:
    found = read_configuration(write(tmp_path, text, mode=mode), kinds())
    path = tmp_path / "powercycle.json5"
    expected = f"{path} holds passwords, and every user of this computer can read it: chmod o-r {path}"
    assert found.warnings == ((expected,) if warned else ())


@pytest.mark.parametrize(
    ("strips", "said"),
    [
        ('a: { address: "s", user: "u", ports: { m1: 3, m2: 4, m3: "3" } }', "m1 (mpower/a), m3 (mpower/a)"),
        (
            'a: { address: "s", user: "u", ports: { m1: 3 } }, b: { address: "s", user: "u", ports: { m2: 3 }, delay: 3 }',
            "m1 (mpower/a), m2 (mpower/b)",
        ),
        (
            'a: { address: "s", user: "u", ports: { m1: 3 } }, b: { address: "t", user: "u", ports: { m2: 3 } }',
            "",
        ),
    ],
    ids=["port-twice", "device-twice", "two-devices"],
)
def test_machines_that_go_dark_together_are_warned_of(tmp_path: Path, strips: str, said: str) -> None:
    found = reading(tmp_path, f"{{ mpower: {{ {strips} }} }}")
    assert found.problems == []
    assert [text.partition("cycles all: ")[2] for text in found.warnings] == ([said] if said else [])


def test_a_file_that_goes_away_after_it_was_read_was_read(tmp_path: Path) -> None:
    path = write(tmp_path, OLD)

    class Removing(Registry):
        def kind(self, name: str) -> DriverKind:
            path.unlink(missing_ok=True)
            return kinds().kind(name)

    registry = Removing({name: kinds().kind(name) for name in kinds().names})
    assert len(read_inventory(path, registry).controllers) == 2
    assert not path.exists()


def test_a_configuration_may_come_through_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(OLD.encode())
    try:
        assert len(read_inventory(Path(f"/dev/fd/{reader}"), kinds()).controllers) == 2
    finally:
        os.close(reader)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["edgeswitch", "mpower", "sw1", "address", "user", "password", "ports", "m", "delay"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(
    ANYTHING
    | st.fixed_dictionaries({"edgeswitch": st.fixed_dictionaries({"sw1": ANYTHING, "sw2": ANYTHING})})
    | st.fixed_dictionaries(
        {"mpower": st.fixed_dictionaries({"s": st.fixed_dictionaries({"ports": ANYTHING})})}
    )
)
def test_whatever_a_file_says_it_is_read_or_refused_in_words(tmp_path: Path, content: Any) -> None:
    try:
        found = reading(tmp_path, json.dumps(content))
    except Misconfigured as error:
        text = str(error)
    else:
        text = "\n".join(found.problems)
    assert "Traceback" not in text
    assert all(line.startswith(str(tmp_path)) for line in text.splitlines())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_refused_in_words(tmp_path: Path, content: bytes) -> None:
    try:
        reading(tmp_path, content)
    except Misconfigured as error:
        text = str(error)
    else:
        text = str(tmp_path)
    assert text.startswith(str(tmp_path))
