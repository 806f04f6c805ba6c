"""Fixtures of the end-to-end tests: a lab that runs, and a browser.

They live for a module: starting them takes seconds, and while the browser runs no asyncio test can.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e import browser
from tests.e2e.browser import Complaints
from tests.e2e.pages import SOON, open_page
from tests.e2e.processes import Lab
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

expect.set_options(timeout=SOON)  # playwright itself gives five seconds


@pytest.fixture(scope="module")
def lab(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of this module's own, empty at first."""
    with new_database(postgres_server) as database_url:
        lab = Lab(database_url, tmp_path_factory.mktemp("logs"))
        with lab.running():
            yield lab


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; skips the test where there is none."""
    program = browser.find_chromium()
    if program is None:
        pytest.skip(f"needs Chromium or Chrome: none on the path, and {browser.PATH_VARIABLE} is not set")
    with browser.running(program) as running:
        yield running


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A fresh profile on a desk: 1440 by 900 pixels, light."""
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme="light", locale="en-US"
    )
    try:
        yield context
    finally:
        context.close()


@pytest.fixture
def complaints() -> Complaints:
    """What the browser complains of. A test that expects complaints clears them."""
    return Complaints()


@pytest.fixture
def page(context: BrowserContext, complaints: Complaints) -> Iterator[Page]:
    """A tab. The test fails in the end if the browser found fault with the page."""
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints.listen(page)
    yield page
    assert complaints.texts == []


@pytest.fixture
def live(lab: Lab, page: Page) -> Page:
    """The page, open and up to date."""
    return open_page(page, lab.url)


@pytest.fixture(scope="session")
def files() -> Path:
    """The folder of the page's files."""
    return Path(__file__).parents[2] / "consumers" / "facade" / "static"
