"""The file of tokens and the command that adds to it."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from consumers.facade.tokens import Caller, Role, TokenFile, add_token, token_command
from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import Misconfigured

HASH = "0" * 64


def test_a_new_token_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    arguments = ["new", "--role", "machine", "--name", "rpi-1", "--file", str(path)]
    result = CliRunner().invoke(token_command, arguments, catch_exceptions=False)
    token = result.output.strip()
    assert result.exit_code == 0
    assert token.startswith("lk_")
    assert len(token) > 40
    assert path.read_text() == f"machine:rpi-1:{hashlib.sha256(token.encode()).hexdigest()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TokenFile(path).caller_of(token) == Caller("rpi-1", Role.MACHINE)


def test_tokens_are_added_to_a_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# people\nviewer:vera@example.org:{HASH}")  # no newline at its end
    token = add_token(path, Role.OPERATOR, "olga@example.org")
    assert path.read_text().splitlines()[:2] == ["# people", f"viewer:vera@example.org:{HASH}"]
    assert TokenFile(path).caller_of(token) == Caller("olga@example.org", Role.OPERATOR)


def test_two_tokens_are_never_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    assert len({add_token(path, Role.VIEWER, "vera") for _ in range(20)}) == 20


@pytest.mark.parametrize("name", ["", "a:b", "a\nadmin:eve:" + HASH, "-x", "ä", "a b", "x" * 129])
def test_a_name_that_would_spoil_the_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandFailed, match="cannot be a token's name"):
        add_token(tmp_path / "tokens", Role.VIEWER, name)
    assert not (tmp_path / "tokens").exists()


def test_nobody_is_named_like_what_happens_by_itself(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="choose another name"):
        add_token(tmp_path / "tokens", Role.OPERATOR, "labkeeper")
    assert not (tmp_path / "tokens").exists()


def test_a_machines_token_is_named_after_a_machine(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="machine's id"):
        add_token(tmp_path / "tokens", Role.MACHINE, "olga@example.org")


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot write the token file"):
        add_token(tmp_path / "missing" / "tokens", Role.VIEWER, "vera")


def test_tokens_are_listed_and_revoked_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# olga: on leave until May\n\n")
    path.chmod(0o640)
    kept = add_token(path, Role.VIEWER, "vera")
    gone = [add_token(path, role, "olga") for role in (Role.OPERATOR, Role.ADMIN)]
    listed = CliRunner().invoke(token_command, ["list", "--file", str(path)]).output
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["viewer", "vera"],
        ["operator", "olga"],
        ["admin", "olga"],
    ]
    assert kept not in listed
    revoke = ["revoke", "--name", "olga", "--file", str(path)]
    assert CliRunner().invoke(token_command, revoke, catch_exceptions=False).output == "2 revoked\n"
    tokens = TokenFile(path)
    assert tokens.caller_of(kept) == Caller("vera", Role.VIEWER)
    assert [tokens.caller_of(token) for token in gone] == [None, None]
    assert path.read_text().startswith("# olga: on leave until May\n\nviewer:vera:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    again = CliRunner().invoke(token_command, revoke)
    assert isinstance(again.exception, CommandFailed)
    assert again.exception.code is ExitCode.NOT_FOUND


def test_a_list_of_tokens_comes_as_json_and_as_names_too(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"viewer:vera:{HASH}\nadmin:vera:{'1' * 64}\nmachine:rpi-1:{'2' * 64}\n")
    listing = ["list", "--file", str(path), "--output"]

    document = json.loads(CliRunner().invoke(token_command, [*listing, "json"]).output)
    assert document[0] == {"role": "viewer", "name": "vera", "hash": HASH[:12]}
    assert [token["name"] for token in document] == ["vera", "vera", "rpi-1"]
    assert CliRunner().invoke(token_command, [*listing, "name"]).output == "vera\nrpi-1\n"


def test_a_list_without_tokens_is_still_json(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("")

    assert CliRunner().invoke(token_command, ["list", "--file", str(path), "-o", "json"]).output == "[]\n"
    assert CliRunner().invoke(token_command, ["list", "--file", str(path)]).output == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("chef:vera:" + HASH, "the role must be one of viewer, operator"),
        ("viewer", "the name must be"),
        ("viewer::" + HASH, "the name must be"),
        ("viewer:vera:", "64 lower-case hex digits"),
        ("viewer:vera:" + "G" * 64, "64 lower-case hex digits"),
        ("viewer:vera:" + HASH + ":x", "64 lower-case hex digits"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# comment\n\n{line}\n")
    with pytest.raises(Misconfigured, match=f"tokens:3: .*{says}"):
        TokenFile(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot read the token file"):
        TokenFile(tmp_path / "tokens")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="cannot read the token file"):
        TokenFile(path)
