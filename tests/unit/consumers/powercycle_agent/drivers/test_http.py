"""HTTP as the drivers use it, against a web server on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.http import (
    MAX_ANSWER,
    AccountSettings,
    Login,
    WebDevice,
    WebSettings,
)
from consumers.powercycle_agent.drivers.secrets import Secrets
from infra.servers.kafka.certificates import Certificates
from tests.power_devices.gate import Gate

pytestmark = pytest.mark.slow

NOWHERE = Path("/nonexistent")
DEADLINE_S = 5
LOCATIONS = {
    "here": "/echo",
    "again": "/redirect/again",
    "elsewhere": "http://elsewhere.invalid/?password=hidden",
    "nonsense": "http://[",
}


async def echo(request: web.Request) -> web.Response:
    said = {"method": request.method, "query": dict(request.query), "body": await request.text()}
    return web.json_response(said | {"login": request.headers.get("Authorization")})


async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": LOCATIONS[request.match_info["to"]]})


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2 * MAX_ANSWER // 65536):
        await response.write(bytes(65536))
    return response


async def tell_tale(request: web.Request) -> web.Response:
    return web.Response(status=500, text=f"cannot do {request.path_qs} for {request.headers}")


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/echo", echo)
    application.router.add_route("*", "/redirect/{to}", redirect)
    application.router.add_get("/endless", endless)
    application.router.add_get("/telltale", tell_tale)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def device(
    address: str, login: Callable[[], Login | None] | None = None, **keys: Any
) -> AsyncIterator[WebDevice]:
    web_device = WebDevice(WebSettings.model_validate({"address": address, "ports": {}} | keys), logins=login)
    yield web_device
    await web_device.close()


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async with serving() as address:
        yield address


async def test_no_connection_is_kept_for_the_next_call() -> None:
    async with serving() as address:
        gate = Gate(lambda: False)
        await gate.open(int(address.rpartition(":")[2]))
        device = WebDevice(WebSettings(address=f"http://127.0.0.1:{gate.port}", ports={}))
        for _ in range(2):
            await device.get("/echo")
            async with asyncio.timeout(DEADLINE_S):
                while gate.connections:
                    await asyncio.sleep(0.01)
        await device.close()
        await gate.shut()
    assert len(gate.connected_at) == 2


async def test_a_request_arrives_as_it_was_meant(server: str) -> None:
    async with device(server) as web_device:
        answer = await web_device.request(
            "PUT", "/echo", query={"cmnd": "Power1 On;&"}, document={"on": True}
        )
    assert answer.confirmed().json_object() == {
        "method": "PUT",
        "query": {"cmnd": "Power1 On;&"},
        "body": '{"on": true}',
        "login": None,
    }


async def test_a_password_that_changed_counts_at_the_next_request(server: str) -> None:
    logins = iter([Login("ann", "old"), Login("ann", "new")])
    async with device(server, lambda: next(logins, Login("ann", "newest"))) as web_device:
        first = (await web_device.get("/echo")).json_object()["login"]
        second = (await web_device.get("/echo")).json_object()["login"]
    assert first != second


@pytest.mark.parametrize(
    ("to", "said"),
    [("elsewhere", "redirects to http://elsewhere.invalid"), ("again", "again and again")],
)
async def test_a_redirect_that_leads_away_is_not_followed(server: str, to: str, said: str) -> None:
    async with device(server) as web_device:
        with pytest.raises(NotConfirmed, match=said) as caught:
            await web_device.get(f"/redirect/{to}")
    assert "hidden" not in str(caught.value)


async def test_a_redirect_to_nonsense_is_a_driver_error(server: str) -> None:
    async with device(server) as web_device:
        with pytest.raises(DriverError):
            await web_device.get("/redirect/nonsense")


async def test_only_what_asks_is_redirected_on_the_same_host(server: str) -> None:
    async with device(server) as web_device:
        assert (await web_device.get("/redirect/here")).json_object()["method"] == "GET"
        with pytest.raises(NotConfirmed, match="redirects"):
            await web_device.request("POST", "/redirect/here", body=b"off")


async def test_an_answer_without_end_is_cut_short(server: str) -> None:
    async with device(server) as web_device:
        with pytest.raises(NotConfirmed, match="more than"):
            await web_device.get("/endless")


async def test_an_error_does_not_repeat_what_the_device_repeats(server: str) -> None:
    async with device(server, lambda: Login("ann", "sesame")) as web_device:
        answer = await web_device.get("/telltale", {"password": "sesame"})
        with pytest.raises(NotConfirmed) as caught:
            answer.confirmed()
    assert "sesame" not in str(caught.value)
    assert "sesame" not in repr(answer)


async def test_what_is_not_there_is_an_unknown_port_only_if_a_port_was_asked_for(server: str) -> None:
    async with device(server) as web_device:
        answer = await web_device.get("/relay/9")
    with pytest.raises(UnknownPort, match="'9'"):
        answer.confirmed(port="9")
    with pytest.raises(NotConfirmed, match="404"):
        answer.confirmed()


async def test_a_name_that_nobody_has_is_unreachable() -> None:
    async with device("http://no-such-host.invalid") as web_device:
        with pytest.raises(Unreachable, match=r"no-such-host\.invalid: .*name"):
            await web_device.get("/")


async def test_a_request_that_was_sent_before_the_server_went_away_is_not_said_to_have_reached_nobody() -> (
    None
):
    """The second connection is refused: what the first one brought may have been understood."""
    heard = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        listening.close()
        writer.close()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with device(f"http://127.0.0.1:{port}") as web_device:
        with pytest.raises(Unreachable) as caught:
            await web_device.get("/relay/0", {"turn": "off"})
        assert not isinstance(caught.value, NotReached)
        assert heard
        with pytest.raises(
            NotReached, match=rf"cannot connect to http://127\.0\.0\.1:{port}: connection refused"
        ):
            await web_device.get("/relay/0", {"turn": "off"})


async def test_a_certificate_is_checked_against_the_file_that_is_named(tmp_path: Path) -> None:
    files = Certificates.issue(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.server_keystore)
    async with serving(tls) as address:
        async with device(address) as web_device:
            with pytest.raises(TurnedAway, match="ca_file"):
                await web_device.get("/echo")
        own = {"ca_file": str(files.server_keystore)}
        for keys in ({"ca_file": str(files.ca_file)}, own, {"verify": False}):
            async with device(address, **keys) as web_device:
                assert (await web_device.get("/echo")).status == 200
        async with device(address, ca_file=str(tmp_path / "lost.pem")) as web_device:
            with pytest.raises(TurnedAway, match=r"lost\.pem"):
                await web_device.get("/echo")


async def test_a_certificate_for_another_name_is_told_as_such(tmp_path: Path) -> None:
    files = Certificates.issue(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.client_certificate, files.client_key)
    async with serving(tls) as address, device(address, ca_file=str(files.ca_file)) as web_device:
        with pytest.raises(TurnedAway, match="another name"):
            await web_device.get("/echo")


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.5",
        "ftp://pdu",
        "http://",
        "http://ann:sesame@pdu",
        "http://:sesame@pdu",
        "http://pdu?x=1",
        "http://pdu:99999",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="must be an address like") as caught:
        WebSettings.model_validate({"address": address, "ports": {}})
    assert "sesame" not in str(caught.value)


def test_a_certificate_file_that_would_not_be_looked_at_is_refused() -> None:
    with pytest.raises(ValidationError, match="never looked at"):
        WebSettings.model_validate(
            {"address": "https://pdu", "ports": {}, "verify": False, "ca_file": "ca.pem"}
        )


def test_nobody_logs_in_unless_the_entry_names_a_user() -> None:
    settings = AccountSettings.model_validate({"address": "http://pdu", "ports": {}})
    assert settings.login(Secrets({"POWERCYCLE_PASSWORD": "sesame"}, NOWHERE)) is None
    with_user = settings.model_copy(update={"user": "ann"})
    assert with_user.login(Secrets({"POWERCYCLE_PASSWORD": "sesame"}, NOWHERE)) == Login("ann", "sesame")
    with pytest.raises(TurnedAway, match="ann at http://pdu"):
        with_user.login(Secrets({}, NOWHERE))
