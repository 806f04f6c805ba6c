"""What a façade's address and a token may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.facade_access import Token, check_url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "https://lab.example.org/machines/", "http://[::1]:80"]
)
def test_an_address_is_taken_without_its_last_slash(url: str) -> None:
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "lab.example.org",
        "ftp://x",
        "http://",
        "http://x?y=1",
        "http://x#y",
        "http://x:99999",
        "http://[x",
    ],
)
def test_anything_else_is_no_address(url: str) -> None:
    with pytest.raises(Misconfigured, match="no server address"):
        check_url(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(Misconfigured) as refused:
        check_url("https://me:s3cret@lab.example.org")
    assert "s3cret" not in str(refused.value)


def test_a_token_is_never_shown() -> None:
    assert "s3cret" not in repr(Token("s3cret"))
    assert "s3cret" not in f"{Token('s3cret')}"


def test_a_token_file_is_read_for_every_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = Token(file=file)
    for value in ("one", "two"):
        file.write_text(value + "\n")
        assert token.header() == {"Authorization": f"Bearer {value}"}


def test_without_a_token_there_is_no_header() -> None:
    assert Token().header() == {}


@pytest.mark.parametrize("content", ["two words", "line\nbreak", "tökén"])
def test_a_token_that_is_no_header_value_is_refused(content: str) -> None:
    with pytest.raises(Misconfigured, match="printable ASCII"):
        Token(content).header()
