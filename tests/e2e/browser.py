"""Chromium, as people have it: a real browser with an empty profile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

PATH_VARIABLE: Final = "LABKEEPER_CHROMIUM"
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_HEAR_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI}) =>
  console.error(`content security policy: ${violatedDirective} ${blockedURI}`));
"""


def find_chromium() -> str | None:
    """Its program, from the environment or the path."""
    given = os.environ.get(PATH_VARIABLE)
    found = (shutil.which(name) for name in _NAMES)
    return given or next((path for path in found if path is not None), None)


@contextmanager
def running(program: str) -> Iterator[Browser]:
    """The browser. While it runs, asyncio cannot be used in this thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """What the browser found wrong with a page."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def listen(self, page: Page) -> None:
        """Collect the page's complaints from now on."""
        page.add_init_script(_HEAR_VIOLATIONS)
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.texts.append(message.text)

    def _on_error(self, error: Error) -> None:
        self.texts.append(str(error))
