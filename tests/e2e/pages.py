"""The page as tests see it: opening it, and finding things on it."""

from __future__ import annotations

from typing import Final

from playwright.sync_api import Locator, Page, expect

SOON: Final = 20_000
"""Milliseconds within which something that was reported must be on the page, on a slow and busy computer."""
SILENCE: Final = 60_000
"""The same for silence: the watchdog waits for three missed reports, and for the writer to say how far it is."""


def open_page(page: Page, url: str) -> Page:
    """The page, open and up to date."""
    page.goto(url)
    expect(page.locator("connection-status")).to_have_text("Live", timeout=SOON)
    return page


def row(page: Page, machine_id: str) -> Locator:
    """A machine's row in the table."""
    return page.locator(f"tr[id='machine-{machine_id}']")


def cell(page: Page, machine_id: str, column: str) -> Locator:
    """A cell of that row, by the key of its column."""
    return row(page, machine_id).locator(f".column-{column}")


def shown_ids(page: Page) -> list[str]:
    """The machines in the page, from top to bottom."""
    return page.locator("tr.machine .column-machine").all_inner_texts()


def search(page: Page, text: str) -> None:
    """Type into the filter."""
    page.get_by_role("searchbox").fill(text)
