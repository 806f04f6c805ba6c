"""Every way in which a façade can fail us, and the exit code and sentence that a person gets for it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from pipeline.command import CommandFailed, ExitCode
from producers.labkeeper.access import Access, access_to
from producers.labkeeper.client import FacadeClient
from tests.unit.producers.labkeeper.command_line import Result, labkeeper, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble, problem


async def _show(facade: FacadeDouble) -> Result:
    return await labkeeper_beside("machines", "show", "m", "--url", facade.url)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ExitCode.FAILED),
        (401, ExitCode.DENIED),
        (403, ExitCode.DENIED),
        (404, ExitCode.NOT_FOUND),
        (409, ExitCode.CONFLICT),
        (412, ExitCode.CONFLICT),
        (413, ExitCode.FAILED),
        (422, ExitCode.FAILED),
        (500, ExitCode.FAILED),
        (503, ExitCode.UNREACHABLE),
        (504, ExitCode.TIMED_OUT),
    ],
)
async def test_a_problem_becomes_its_sentence_and_an_exit_code(
    facade: FacadeDouble, status: int, code: ExitCode
) -> None:
    facade.refusal = lambda: problem(status, "this is why")

    result = await _show(facade)

    assert result.code == code
    assert result.err.startswith("labkeeper: this is why")
    assert len(result.err.splitlines()) == 1


async def test_who_is_denied_is_told_how_to_be_let_in(facade: FacadeDouble) -> None:
    facade.refusal = lambda: problem(401, "a token is needed")

    assert "--token-file" in (await _show(facade)).err


async def test_each_refused_field_is_named(facade: FacadeDouble) -> None:
    errors = [{"field": "reason", "message": "too long"}, {"field": "x", "message": "unknown"}]
    facade.refusal = lambda: problem(422, "The body is wrong.", errors=errors)

    assert (await _show(facade)).err == "labkeeper: The body is wrong; reason: too long; x: unknown\n"


async def test_a_field_that_the_sentence_names_is_not_named_again(facade: FacadeDouble) -> None:
    facade.refusal = lambda: problem(
        422, "reason: too long", errors=[{"field": "reason", "message": "too long"}]
    )

    assert (await _show(facade)).err == "labkeeper: reason: too long\n"


async def test_a_key_that_came_with_another_request_is_a_conflict(facade: FacadeDouble) -> None:
    """Other requests of this status are mistakes in what was typed."""
    facade.refusal = lambda: problem(422, "use a new key", reason="idempotency_key_reused")

    result = await labkeeper_beside("power", "cycle", "m", "--url", facade.url)

    assert (result.code, result.err) == (ExitCode.CONFLICT, "labkeeper: use a new key\n")


async def test_a_problem_cannot_steer_the_terminal(facade: FacadeDouble) -> None:
    facade.refusal = lambda: problem(409, "\x1b]0;owned\x07")

    assert (await _show(facade)).err == "labkeeper: \\x1b]0;owned\\x07\n"


async def test_a_server_that_is_no_facade_is_recognised(facade: FacadeDouble) -> None:
    answers = [
        web.Response(status=404, text="<h1>nginx</h1>", content_type="text/html"),
        web.Response(status=200, text="<h1>welcome</h1>", content_type="text/html"),
        web.json_response([1, 2, 3]),
        problem_without_sense(),
    ]
    for answer in answers:
        facade.refusal = lambda answer=answer: answer
        result = await _show(facade)
        assert result.code == 1
        assert "not as a Labkeeper façade does: check --url" in result.err


def problem_without_sense() -> web.Response:
    return web.Response(status=418, body=b"[]", content_type="application/problem+json")


async def test_a_machine_that_makes_no_sense_is_refused_by_field(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.json_response({"Battery": "full"})

    result = await _show(facade)

    assert result.code == 1
    assert "the façade sent a machine that makes no sense: Battery: " in result.err


async def test_a_listing_without_its_list_is_refused(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.json_response({"boxes": []})

    result = await labkeeper_beside("machines", "list", "--url", facade.url)

    assert result.code == 1
    assert "older or newer than this labkeeper" in result.err


async def test_a_redirect_is_told_not_followed(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.Response(status=302, headers={"Location": "https://login.example.org/"})

    result = await labkeeper_beside("machines", "show", "m", "--url", facade.url, LABKEEPER_TOKEN="secret")

    assert result.code == 1
    assert "sends us on to https://login.example.org/" in result.err
    assert len(facade.asked) == 1


def test_a_facade_that_is_not_there_is_unreachable_with_advice() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = labkeeper("machines", "list", "--url", url)

    assert result.code == 7
    assert result.err == (
        f"labkeeper: cannot reach {url}: is `labkeeper up` running? (--url or LABKEEPER_URL says where)\n"
    )


async def test_a_facade_that_does_not_answer_in_time_has_timed_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel takes the connection, and nobody ever reads it
        access = Access(f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with FacadeClient(access, request_seconds=0.2) as client:
            with pytest.raises(CommandFailed, match=r"did not answer within 0\.2 s") as failed:
                await client.get("/readyz")

    assert failed.value.code is ExitCode.TIMED_OUT


async def test_a_connection_that_breaks_is_told_without_a_traceback() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        result = await labkeeper_beside("machines", "list", "--url", f"http://127.0.0.1:{port}")

    assert result.code == 7
    assert "broke" in result.err
    assert "Traceback" not in result.err


async def test_a_facade_without_tls_is_not_spoken_to_in_tls(facade: FacadeDouble) -> None:
    url = facade.url.replace("http:", "https:")
    result = await labkeeper_beside("machines", "list", "--url", url)

    assert result.code == 7
    assert "does not speak TLS; try http://" in result.err


async def test_a_server_that_speaks_something_else_is_recognised() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        result = await labkeeper_beside("machines", "list", "--url", f"http://127.0.0.1:{port}")

    assert result.code == 1
    assert "does not speak HTTP: check --url" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://lab",
        "http://",
        "http://[::1",
        "http://lab:99999",
        "http://lab/?a=b",
        "http://la b",
    ],
)
def test_an_address_that_is_none_is_a_usage_error(url: str) -> None:
    result = labkeeper("machines", "list", "--url", url)

    assert result.code == 2
    assert "is no address of a façade" in result.err


def test_credentials_do_not_belong_into_the_address() -> None:
    result = labkeeper("machines", "list", "--url", "http://ada:secret@lab:8000")

    assert result.code == 2
    assert "keep credentials out of --url" in result.err
    assert "secret" not in result.err


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", b"\xff\xfe", "höflich".encode(), b"x" * 20_000]
)
def test_a_file_that_holds_no_token_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)

    result = labkeeper("machines", "list", "--token-file", str(file))

    assert result.code == 2
    assert str(file) in result.err
    assert "two words" not in result.err


def test_the_token_is_not_in_what_is_printed_of_an_access() -> None:
    assert "secret" not in repr(Access("http://lab", "secret"))


def test_the_slash_at_the_end_of_an_address_does_not_matter() -> None:
    assert access_to("http://lab:8000/", None).url == "http://lab:8000"
