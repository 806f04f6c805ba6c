"""One line in the log for each request."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.unit.consumers.facade.lab import Lab


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "level"),
    [
        ("GET", "/api/v1/whoami", "/api/v1/whoami", 200, "info"),
        ("GET", "/api/v1/machines/secret-07", "/api/v1/machines/{id}", 404, "info"),
        ("PATCH", "/api/v1/whoami", "", 405, "info"),
        ("GET", "/nothing/at/all", "", 404, "info"),
        ("PROPFIND", "/api/v1/whoami", "", 405, "info"),
        ("GET", "/healthz", "/healthz", 200, "debug"),
        ("GET", "/readyz", "/readyz", 200, "debug"),
        ("GET", "/metrics", "/metrics", 200, "debug"),
        ("GET", "/static/app.js", "/static/{path}", 200, "debug"),
    ],
)
async def test_each_request_leaves_a_line_that_names_its_route(
    lab: Lab, method: str, path: str, route: str, status: int, level: str
) -> None:
    with capture_logs() as lines:
        async with lab.http.request(method, path) as response:
            assert response.status == status
    (line,) = [each for each in lines if each["event"] == "request"]
    assert line.pop("duration_ms") >= 0
    method = "other" if method == "PROPFIND" else method
    assert line == {
        "event": "request",
        "method": method,
        "route": route,
        "status": status,
        "log_level": level,
    }


async def test_a_foreign_page_that_was_turned_away_is_logged_as_well(lab: Lab) -> None:
    with capture_logs() as lines:
        async with lab.http.delete(
            "/api/v1/machines/m", headers={"Sec-Fetch-Site": "cross-site"}
        ) as response:
            assert response.status == 403
    assert [each["status"] for each in lines if each["event"] == "request"] == [403]
