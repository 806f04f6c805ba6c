"""Who may do what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from consumers.facade.auth import SESSION_COOKIE, Access, allows, authenticator
from consumers.facade.settings import FacadeSettings
from consumers.facade.tokens import Caller, Role
from pipeline.errors import Misconfigured
from pipeline.settings import is_loopback
from tests.unit.consumers.facade.lab import Lab, SseClient, running

Tokens = tuple[Path, dict[str, dict[str, str]]]

OWN = {"type": "raw_state", "host": {"name": "rack4-07"}}
OTHERS = {"type": "raw_state", "host": {"name": "rack4-08"}}


async def status_of(lab: Lab, method: str, path: str, headers: dict[str, str], document: Any = None) -> int:
    async with lab.http.request(method, path, headers=headers, json=document) as response:
        return response.status


REQUESTS: dict[str, tuple[str, str, Any]] = {
    "list": ("GET", "/api/v1/machines", None),
    "old list": ("GET", "/_/machines", None),
    "own": ("GET", "/api/v1/machines/rack4-07", None),
    "other": ("GET", "/api/v1/machines/rack4-08", None),
    "old own": ("GET", "/json/v1/machine/description/rack4-07", None),
    "old other": ("GET", "/json/v1/machine/description/rack4-08", None),
    "own history": ("GET", "/api/v1/machines/rack4-07/history", None),
    "note": ("PUT", "/api/v1/machines/rack4-07/note", {"message": "x"}),
    "old note": ("POST", "/_/machine/set_note/rack4-07", {"Message": "x"}),
    "toggle": ("POST", "/_/machine/toggle_mode/rack4-07", None),
    "own event": ("POST", "/api/v1/events", OWN),
    "old own event": ("POST", "/json/v1/machine/event/", OWN),
    "others event": ("POST", "/api/v1/events", OTHERS),
    "old others event": ("POST", "/json/v1/machine/event/", OTHERS),
    "power list": ("GET", "/json/v1/powercycle/list", None),
    "power done": ("POST", "/json/v1/powercycle/complete/rack4-07", None),
    "power states": ("POST", "/json/v1/powercycle/state/update", {"Machines": []}),
    "power": ("PUT", "/api/v1/machines/rack4-07/power", {"action": "cycle"}),
    "own power": ("GET", "/api/v1/machines/rack4-07/power", None),
    "other power": ("GET", "/api/v1/machines/rack4-08/power", None),
    "power withdrawn": ("DELETE", "/api/v1/machines/rack4-07/power", None),
    "old power": ("POST", "/_/machine/toggle_powercycle/rack4-07", None),
    "power commands": ("GET", "/api/v1/power/commands", None),
    "outlets": ("GET", "/api/v1/power/outlets", None),
    "results": ("POST", "/api/v1/power/results", []),
    "lease": ("PUT", "/api/v1/power/leases/rack4", {"owner": "x"}),
    "lease given up": ("DELETE", "/api/v1/power/leases/rack4", {"owner": "x"}),
    "down bots": ("GET", "/down_bots", None),
    "powercycled bots": ("POST", "/powercycled_bots", {"powercycled_bots": []}),
    "silences": ("GET", "/api/v1/silences", None),
    "silence": ("POST", "/api/v1/silences", {"reason": "x", "ends_in_s": 60}),
    "metrics": ("GET", "/metrics", None),
    "whoami": ("GET", "/api/v1/whoami", None),
}
READS = {
    "list",
    "old list",
    "own",
    "other",
    "old own",
    "old other",
    "own history",
    "own power",
    "other power",
    "power commands",
    "outlets",
    "silences",
    "power list",
    "metrics",
    "whoami",
}
DRIVES_POWER = {
    "power done",
    "power states",
    "results",
    "lease",
    "lease given up",
    "down bots",
    "powercycled bots",
}
MAY: dict[str, set[str]] = {
    "viewer": READS,
    "operator": set(REQUESTS),
    "admin": set(REQUESTS),
    "machine": {"own", "old own", "own history", "own power", "own event", "old own event", "whoami"},
    "agent": READS | DRIVES_POWER,
    "nobody": set(),
}


@pytest.mark.parametrize("role", MAY)
async def test_each_role_may_do_what_it_should_and_nothing_else(tokens: Tokens, role: str) -> None:
    path, headers = tokens
    async with running(tokens=path) as lab:
        await lab.machine("rack4-07", power_cycle_state="available")
        await lab.machine("rack4-08")
        refused = 401 if role == "nobody" else 403
        for name, (method, target, document) in REQUESTS.items():
            status = await status_of(lab, method, target, headers.get(role, {}), document)
            if name in MAY[role]:
                assert status < 300, f"{role} may not: {name}"
            else:
                assert status == refused, f"{role}: {name}"


async def test_a_machine_watches_itself_only(tokens: Tokens) -> None:
    path, headers = tokens
    old = "/json/v1/machine/sse/description/updated?stream="
    async with running(tokens=path) as lab:
        for target in ("/api/v1/machines/rack4-08/watch", "/api/v1/machines/watch", old + "rack4-08"):
            assert await status_of(lab, "GET", target, headers["machine"]) == 403
        async with lab.http.get("/api/v1/machines/rack4-07/watch", headers=headers["machine"]) as response:
            assert (await SseClient(response).next()).event == "reset"
        await lab.machine()
        async with lab.http.get(old + "rack4-07", headers=headers["machine"]) as response:
            assert (await SseClient(response).next()).event == "message"


async def test_a_refusal_says_why_and_what_to_show(tokens: Tokens) -> None:
    path, headers = tokens
    async with running(tokens=path) as lab:
        async with lab.http.get("/api/v1/machines") as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert (await response.json(content_type=None))["detail"] == (
                "this takes a token in the header Authorization, as Bearer <token>"
            )
        async with lab.http.get("/api/v1/machines", headers=headers["machine"]) as response:
            assert (await response.json(content_type=None))["detail"] == (
                "this takes the role viewer or agent; rack4-07 is machine"
            )
        async with lab.http.post("/api/v1/events", json=OTHERS, headers=headers["machine"]) as response:
            assert (await response.json(content_type=None))["detail"] == (
                "the token of machine rack4-07 is good for that machine only"
            )
        async with lab.http.post("/_/machine/toggle_mode/rack4-07", headers=headers["viewer"]) as response:
            assert response.status == 403
            assert await response.text() == "this takes the role operator; vera@example.org is viewer\n"


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic dXNlcjpwYXNz", "", "Bearer \xfcmlaut"])
async def test_a_token_that_nobody_has_is_refused_even_where_a_cookie_would_do(
    tokens: Tokens, header: str
) -> None:
    path, headers = tokens
    cookie = f"{SESSION_COOKIE}={headers['admin']['Authorization'].removeprefix('Bearer ')}"
    async with running(tokens=path) as lab:
        status = await status_of(lab, "GET", "/api/v1/machines", {"Authorization": header, "Cookie": cookie})
    assert status == 401


async def test_actions_are_done_in_the_callers_name(tokens: Tokens) -> None:
    path, headers = tokens
    async with running(tokens=path, headers=headers["operator"]) as lab:
        await lab.machine()
        assert await status_of(lab, "POST", "/_/machine/toggle_mode/rack4-07", {}) == 200
        assert (await lab.store.get("rack4-07")).maintenance_mode.startswith("olga@example.org ")
        assert (await lab.store.history("rack4-07"))[0].who == "olga@example.org"


@pytest.mark.parametrize(
    ("role", "answer"),
    [
        ("viewer", b'{"email":"vera@example.org","roles":["viewer"]}\n'),
        ("operator", b'{"email":"olga@example.org","roles":["viewer","editor"]}\n'),
        ("nobody", b'{"email":"","roles":[]}\n'),
    ],
)
async def test_the_login_status_speaks_the_old_servers_words(
    tokens: Tokens, role: str, answer: bytes
) -> None:
    path, headers = tokens
    async with (
        running(tokens=path) as lab,
        lab.http.get("/loginstatus/", headers=headers.get(role, {})) as response,
    ):
        assert await response.read() == answer


async def test_a_browser_signs_in_with_a_token_and_out_again(tokens: Tokens) -> None:
    path, headers = tokens
    token = headers["operator"]["Authorization"].removeprefix("Bearer ")
    async with running(tokens=path) as lab:
        form = {"token": token}
        async with lab.http.post("/login", data=form, headers={"Accept": "application/json"}) as response:
            assert response.status == 204
            cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        # a client by IP address keeps no cookies, so it is sent by hand
        session = {"Cookie": cookie.partition(";")[0]}
        async with lab.http.get("/api/v1/whoami", headers=session) as response:
            assert await response.json(content_type=None) == {"user": "olga@example.org", "role": "operator"}
        async with lab.http.post(
            "/logout", headers={**session, "Accept": "text/html"}, allow_redirects=False
        ) as response:
            assert (response.status, response.headers["Location"]) == (303, "/")
            assert 'labkeeper_session=""' in response.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("sent", "content_type", "status"),
    [
        (b"token=wrong", "application/x-www-form-urlencoded", 401),
        (b"token=", "application/x-www-form-urlencoded", 422),
        (b"", "application/x-www-form-urlencoded", 422),
        (b"token=a&token=b", "application/x-www-form-urlencoded", 422),
        (b"token=%FF%00", "application/x-www-form-urlencoded", 401),
        (b"\xff", "application/x-www-form-urlencoded", 422),
        (b"a=1&" * 100, "application/x-www-form-urlencoded", 422),
        (b"token=" + b"x" * 5000, "application/x-www-form-urlencoded", 413),
        (b'{"token":"x"}', "application/json", 415),
    ],
)
async def test_a_login_that_is_none_gives_no_cookie(
    tokens: Tokens, sent: bytes, content_type: str, status: int
) -> None:
    path, _ = tokens
    async with (
        running(tokens=path) as lab,
        lab.http.post("/login", data=sent, headers={"Content-Type": content_type}) as response,
    ):
        assert response.status == status
        assert response.content_type == "application/problem+json"
        assert "Set-Cookie" not in response.headers


async def test_the_page_its_files_and_health_need_no_token(tokens: Tokens) -> None:
    path, _ = tokens
    async with running(tokens=path) as lab:
        for target in (
            "/",
            "/static/app.js",
            "/healthz",
            "/readyz",
            "/openapi.json",
            "/docs",
            "/docs/docs.js",
        ):
            assert await status_of(lab, "GET", target, {}) == 200, target


# --- tokens ------------------------------------------------------------------------------------------------------------
async def test_a_token_whose_line_is_gone_is_refused(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.facade.tokens._LOOK_EVERY_S", 0.0)
    path, headers = tokens
    async with running(tokens=path, headers=headers["admin"]) as lab:
        assert await status_of(lab, "GET", "/api/v1/whoami", {}) == 200
        lines = [line for line in path.read_text().splitlines() if not line.startswith("admin:")]
        path.write_text("\n".join(lines))
        assert await status_of(lab, "GET", "/api/v1/whoami", {}) == 401
        assert await status_of(lab, "GET", "/api/v1/whoami", headers["viewer"]) == 200


@pytest.mark.parametrize("spoiled", ["nonsense\n", None])
async def test_a_file_that_was_spoiled_or_lost_leaves_the_old_tokens_valid(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, spoiled: str | None
) -> None:
    monkeypatch.setattr("consumers.facade.tokens._LOOK_EVERY_S", 0.0)
    path, headers = tokens
    async with running(tokens=path, headers=headers["admin"]) as lab:
        if spoiled is None:
            os.unlink(path)  # noqa: PTH108
        else:
            path.write_text(spoiled)
        assert await status_of(lab, "GET", "/api/v1/whoami", {}) == 200


# --- open --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab.example.org", ""])
def test_an_open_server_must_not_be_reachable_from_other_hosts(host: str) -> None:
    with pytest.raises(Misconfigured, match=r"labkeeper token new.*127\.0\.0\.1"):
        authenticator(FacadeSettings(host=host))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "Localhost.", "lab.localhost"]
)
def test_a_loopback_address_is_told_by_its_name(host: str) -> None:
    assert is_loopback(host)
    assert authenticator(FacadeSettings(host=host)).is_open


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("lab.example.org", 403),
        ("localhost.example.org", 403),
        ("127.0.0.1.example.org:8000", 403),
        ("192.168.1.5", 403),
        ("", 403),
    ],
)
async def test_an_open_server_answers_to_its_own_names_only(lab: Lab, host: str, status: int) -> None:
    assert await status_of(lab, "GET", "/api/v1/machines", {"Host": host}) == status


async def test_a_server_with_tokens_answers_to_any_name(tokens: Tokens) -> None:
    path, headers = tokens
    async with running(tokens=path, headers=headers["viewer"]) as lab:
        assert await status_of(lab, "GET", "/api/v1/machines", {"Host": "lab.example.org"}) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example.org"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost:8000"}, 200),
        ({"Origin": "http://LOCALHOST:8000"}, 200),
        ({"Origin": "http://localhost:8001"}, 403),
        ({"Origin": "https://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
@pytest.mark.parametrize("open_or_not", ["open", "tokens"])
async def test_a_foreign_page_cannot_change_anything(
    tokens: Tokens, headers: dict[str, str], status: int, open_or_not: str
) -> None:
    path, of_role = tokens
    with_tokens: dict[str, Any] = {"tokens": path, "headers": of_role["operator"]}
    async with running(**(with_tokens if open_or_not == "tokens" else {})) as lab:
        await lab.machine()
        sent = {"Host": "localhost:8000", **headers}
        assert await status_of(lab, "POST", "/_/machine/toggle_mode/rack4-07", sent) == status
        assert await status_of(lab, "DELETE", "/api/v1/machines/rack4-07/maintenance", sent) == status
        assert await status_of(lab, "GET", "/api/v1/machines", sent) == 200
        assert (await lab.store.get("rack4-07")).maintenance_mode == ""


def test_a_machine_is_itself_only_where_the_route_says_so() -> None:
    machine = Caller("m", Role.MACHINE)
    assert allows(Access.MACHINE, machine, "m")
    assert not allows(Access.MACHINE, machine, None)
    assert not allows(Access.OPERATE, machine, "m")
    assert not allows(Access.MACHINE, Caller("x", Role.MACHINE), "m")
