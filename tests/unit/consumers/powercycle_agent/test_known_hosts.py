"""The file of host keys."""

from __future__ import annotations

import functools
import stat
import threading
from pathlib import Path

import asyncssh
import pytest

from consumers.powercycle_agent.known_hosts import KnownHosts, Standing
from pipeline.errors import Misconfigured


@functools.cache
def key(name: str) -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519", name)


def line(host: str, name: str) -> str:
    algorithm, data = key(name).export_public_key().decode().split()[:2]
    return f"{host} {algorithm} {data}"


def standing(path: Path, name: str, *, address: str = "10.0.0.1", port: int = 22) -> Standing:
    return KnownHosts(path).judge(address, port, key(name).get_fingerprint()).standing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "known_hosts"


def test_a_learnt_key_is_known_and_the_file_is_its_owners_only(path: Path) -> None:
    assert standing(path, "a") is Standing.NEW
    KnownHosts(path).learn("10.0.0.1", 22, line("10.0.0.1", "a"), replace=False)
    assert path.read_text() == line("10.0.0.1", "a") + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (standing(path, "a"), standing(path, "b")) == (Standing.KNOWN, Standing.CHANGED)
    assert standing(path, "a", address="10.0.0.2") is Standing.NEW
    assert [found.name for found in path.parent.iterdir()] == ["known_hosts"]


def test_another_port_is_another_host(path: Path) -> None:
    KnownHosts(path).learn("10.0.0.1", 2200, line("[10.0.0.1]:2200", "a"), replace=False)
    assert standing(path, "a", port=2200) is Standing.KNOWN
    assert standing(path, "a", port=2201) is Standing.NEW


def test_what_others_wrote_stays_and_so_does_the_files_mode(path: Path) -> None:
    path.parent.mkdir()
    others = ["# ours", line("10.0.0.2", "b"), line("@revoked *", "c"), "", line("10.0.0.3,10.0.0.1", "b")]
    path.write_text("\n".join(others))  # no newline at its end
    path.chmod(0o640)
    KnownHosts(path).learn("10.0.0.1", 22, line("10.0.0.1", "a"), replace=True)
    assert path.read_text().splitlines() == [*others[:4], line("10.0.0.3", "b"), line("10.0.0.1", "a")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert standing(path, "c") is Standing.REVOKED


def test_a_replaced_key_is_not_believed_any_more(path: Path) -> None:
    KnownHosts(path).learn("10.0.0.1", 22, line("10.0.0.1", "a"), replace=False)
    KnownHosts(path).learn("10.0.0.1", 22, line("10.0.0.1", "b"), replace=True)
    assert (standing(path, "a"), standing(path, "b")) == (Standing.CHANGED, Standing.KNOWN)


def test_an_old_key_that_cannot_be_taken_out_is_said_and_nothing_is_written(path: Path) -> None:
    path.parent.mkdir()
    before = line("10.0.0.*", "a") + "\n"
    path.write_text(before)
    with pytest.raises(Misconfigured, match="take that line out by hand"):
        KnownHosts(path).learn("10.0.0.1", 22, line("10.0.0.1", "b"), replace=True)
    assert path.read_text() == before


def test_a_link_to_a_file_stays_one(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "real")
    KnownHosts(path).learn("10.0.0.1", 22, line("10.0.0.1", "a"), replace=False)
    assert path.is_symlink()
    assert (tmp_path / "real").read_text() == line("10.0.0.1", "a") + "\n"


def test_two_who_learn_at_once_lose_nothing(path: Path) -> None:
    hosts = [f"10.0.0.{n}" for n in range(20)]
    threads = [
        threading.Thread(
            target=KnownHosts(path).learn, args=(host, 22, line(host, "a")), kwargs={"replace": False}
        )
        for host in hosts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_text().splitlines()) == sorted(line(host, "a") for host in hosts)


@pytest.mark.parametrize("content", [b"\xff", b"nonsense", b"@what 10.0.0.1 ssh-ed25519 AAAA"])
def test_a_file_that_is_none_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="cannot read the host keys in"):
        standing(path, "a")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot read the host keys"):
        standing(tmp_path, "a")
    with pytest.raises(Misconfigured, match=r"cannot write .*known_hosts: "):
        KnownHosts(tmp_path / "file" / "known_hosts").learn("h", 22, line("h", "a"), replace=False)
