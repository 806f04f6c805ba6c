"""`labkeeper power trust`, against real SSH servers on loopback."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncssh
import click
import pytest
from click.testing import CliRunner, Result

from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.ssh_settings import SshSettings
from consumers.powercycle_agent.places import KNOWN_HOSTS_VARIABLE
from consumers.powercycle_agent.registry import Registry
from consumers.powercycle_agent.trust import trust_command
from pipeline.command import CommandFailed, ExitCode
from tests.unit.consumers.powercycle_agent.kinds import Obedient, strip

Trust = Callable[..., Awaitable[Result]]


@functools.cache
def key(name: str) -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519", name)


def fingerprint(name: str) -> str:
    return key(name).get_fingerprint()


@asynccontextmanager
async def server(name: str, port: int = 0) -> AsyncIterator[int]:
    """An SSH server with the key of this name; its port."""
    acceptor = await asyncssh.listen("127.0.0.1", port, server_host_keys=[key(name)], reuse_address=True)
    try:
        yield acceptor.get_port()
    finally:
        acceptor.close()
        await acceptor.wait_closed()


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "state" / "known_hosts"


@pytest.fixture
async def ports() -> AsyncIterator[dict[str, int]]:
    """Two devices, `a` and `b`, with a key each."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(server(name)) for name in ("a", "b")}


@pytest.fixture
def trust(tmp_path: Path, known: Path, monkeypatch: pytest.MonkeyPatch, ports: dict[str, int]) -> Trust:
    """Run the command on a file with the switches `a` and `b`, and a strip that is no matter of SSH."""
    monkeypatch.setenv(KNOWN_HOSTS_VARIABLE, str(known))
    shell = DriverKind("edgeswitch", SshSettings, lambda *_: Obedient())
    registry = Registry({"edgeswitch": shell, "mpower": strip()})
    monkeypatch.setattr(Registry, "installed", lambda: registry)

    async def run(*arguments: str, answers: str = "", extra: str = "") -> Result:
        entries = "".join(f"{name}: {entry(port)}, " for name, port in ports.items())
        path = tmp_path / "lab.json5"
        path.write_text(
            f"{{ edgeswitch: {{ {entries} {extra} }}, mpower: {{ s: {{ address: 'x', ports: {{}} }} }} }}"
        )
        return await asyncio.to_thread(invoke, [str(path), *arguments], answers)

    return run


def entry(port: int, more: str = "") -> str:
    return f"{{ address: '127.0.0.1', user: 'u', ssh_port: {port}, ports: {{}}, {more} }}"


def invoke(arguments: list[str], answers: str) -> Result:
    result = CliRunner().invoke(trust_command, arguments, input=answers, standalone_mode=False)
    if isinstance(result.exception, CommandFailed):
        result.exit_code = result.exception.code
    elif result.exception is None:
        result.exit_code = result.return_value
    elif not isinstance(result.exception, click.ClickException):
        raise result.exception
    return result


def learnt(known: Path) -> dict[str, str]:
    """Fingerprint by host."""
    lines = [line.split(" ", 1) for line in known.read_text().splitlines()] if known.exists() else []
    return {host: asyncssh.import_public_key(rest).get_fingerprint() for host, rest in lines}


def write(known: Path, line: str) -> None:
    known.parent.mkdir()
    known.write_text(line)


async def test_each_key_is_shown_asked_for_and_learnt(
    trust: Trust, known: Path, ports: dict[str, int]
) -> None:
    result = await trust(answers="y\ny\n")
    assert result.exit_code == ExitCode.OK
    assert (
        f"edgeswitch/a at 127.0.0.1:{ports['a']} shows ssh-ed25519 {fingerprint('a')}. Is it the device's?"
        in result.stderr
    )
    for name in "ab":
        said = f"edgeswitch/{name}: learnt: ssh-ed25519 {fingerprint(name)} at 127.0.0.1:{ports[name]}"
        assert said in result.stdout.splitlines()
    assert learnt(known) == {f"[127.0.0.1]:{ports[name]}": fingerprint(name) for name in "ab"}


async def test_a_key_that_is_known_is_not_asked_for_again(trust: Trust, known: Path) -> None:
    await trust("--yes")
    before = learnt(known)
    result = await trust()
    assert result.exit_code == ExitCode.OK
    assert f"edgeswitch/a: known already: ssh-ed25519 {fingerprint('a')}" in result.stdout
    assert learnt(known) == before


async def test_a_no_and_no_answer_learn_nothing(trust: Trust, known: Path) -> None:
    result = await trust("a", answers="n\n")
    assert result.exit_code == ExitCode.FAILED
    assert "edgeswitch/a: not learnt" in result.stderr
    result = await trust("a")
    assert result.exit_code == ExitCode.FAILED
    assert f"there was no answer (--fingerprint {fingerprint('a')} answers for you)" in str(result.exception)
    assert result.stderr.endswith("\n")  # what is said next has a line of its own
    assert learnt(known) == {}


async def test_a_script_names_the_fingerprints_it_believes(
    trust: Trust, known: Path, ports: dict[str, int]
) -> None:
    result = await trust("--fingerprint", f"{fingerprint('b')}=")
    assert result.exit_code == ExitCode.FAILED
    assert (
        f"edgeswitch/a: shows ssh-ed25519 {fingerprint('a')}, which is not what --fingerprint"
        in result.stderr
    )
    assert learnt(known) == {f"[127.0.0.1]:{ports['b']}": fingerprint("b")}


async def test_a_changed_key_is_told_loudly_and_only_replaced_on_request(
    trust: Trust, known: Path, ports: dict[str, int]
) -> None:
    host = f"[127.0.0.1]:{ports['a']}"
    write(known, f"{host} {key('old').export_public_key().decode()}")
    result = await trust("a", "--yes")
    assert result.exit_code == ExitCode.CONFLICT
    assert (
        f"WARNING: edgeswitch/a (127.0.0.1:{ports['a']}) shows ANOTHER host key than the known one!"
        in result.stderr
    )
    assert (
        f"  known: ssh-ed25519 {fingerprint('old')}\n  shown: ssh-ed25519 {fingerprint('a')}" in result.stderr
    )
    assert "and use --replace." in result.stderr
    assert learnt(known) == {host: fingerprint("old")}
    refused = await trust("a", "--replace", answers="n\n")
    assert refused.exit_code == ExitCode.FAILED
    assert "ANOTHER host key" in refused.stderr
    assert "and use --replace." not in refused.stderr
    assert learnt(known) == {host: fingerprint("old")}
    assert (await trust("a", "--replace", answers="y\n")).exit_code == ExitCode.OK
    assert learnt(known) == {host: fingerprint("a")}


async def test_a_revoked_key_is_never_learnt(trust: Trust, known: Path) -> None:
    write(known, f"@revoked * {key('a').export_public_key().decode()}")
    result = await trust("a", "--yes", "--replace")
    assert result.exit_code == ExitCode.CONFLICT
    assert "shows a key that is revoked" in result.stderr


async def test_a_device_that_is_away_does_not_stop_the_others(trust: Trust, known: Path) -> None:
    async with server("c") as gone:
        pass
    result = await trust("--yes", extra=f"c: {entry(gone)}")
    assert result.exit_code == ExitCode.FAILED
    assert "edgeswitch/c: cannot connect to u@127.0.0.1" in result.stderr
    assert len(learnt(known)) == 2


async def test_two_controllers_on_one_device_are_one_question(trust: Trust, ports: dict[str, int]) -> None:
    result = await trust("a", "twin", answers="y\n", extra=f"twin: {entry(ports['a'])}")
    assert "\nedgeswitch/a, edgeswitch/twin: learnt: " in result.stdout


async def test_an_entry_that_pins_its_key_needs_nothing(trust: Trust, known: Path) -> None:
    pinned = entry(1, f"host_key: '{fingerprint('z')}'")
    result = await trust("pinned", extra=f"pinned: {pinned}")
    assert (result.exit_code, result.stdout) == (
        ExitCode.OK,
        "edgeswitch/pinned: its entry has the key (host_key); there is nothing to learn\n",
    )


async def test_a_broken_entry_is_said_and_the_others_are_learnt(trust: Trust, known: Path) -> None:
    result = await trust("--yes", extra="broken: { ports: {} }")
    assert result.exit_code == ExitCode.FAILED
    assert "edgeswitch/broken: You must specify a user and ip address." in result.stderr
    assert len(learnt(known)) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["edgeswitch/aa"], ExitCode.NOT_FOUND, "there is no controller 'edgeswitch/aa' in "),
        (["s"], ExitCode.USAGE, "mpower/s is not spoken to over SSH"),
    ],
)
async def test_a_name_that_does_not_fit_is_refused(
    trust: Trust, arguments: list[str], code: ExitCode, said: str
) -> None:
    result = await trust(*arguments)
    assert result.exit_code == code
    assert said in str(result.exception)


async def test_contradictions_are_refused(trust: Trust) -> None:
    assert "give one of them" in str((await trust("--yes", "--fingerprint", "SHA256:x")).exception)
    assert "expected SHA256:" in str((await trust("--fingerprint", "MD5:x")).exception)


async def test_a_file_that_is_wrong_is_a_usage_error(trust: Trust) -> None:
    result = await trust(extra="}, nonsense: {")
    assert result.exit_code == ExitCode.USAGE
    assert "nonsense: there is no kind" in str(result.exception)


async def test_a_file_without_ssh_has_nothing_to_learn(trust: Trust, tmp_path: Path) -> None:
    path = tmp_path / "other.json5"
    path.write_text("{ mpower: { s: { address: 'x', ports: {} } } }")
    result = await asyncio.to_thread(invoke, [str(path)], "")
    assert result.exit_code == ExitCode.OK
    assert result.stdout.endswith("is spoken to over SSH: there is nothing to learn.\n")
