"""How long a person waits before a page of the app, as their browser sees it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Final

from playwright.sync_api import Browser, Page
from tests.support.browser.viewer import RUNS

__all__ = ["Screen", "Waited", "screen"]

_LONGEST_MS: Final = 300_000
_FIRST: Final = """() => window.__answered && (
    [...document.querySelectorAll("[data-testid=stVegaLiteChart]")].some((chart) =>
        [...chart.querySelectorAll("canvas, svg")].some((mark) => mark.clientWidth > 0)) || window.__answered()
) && performance.now()"""
_WHOLE: Final = "() => window.__answered && window.__answered() && performance.now()"
_CARRIED: Final = """() => [
    performance.getEntriesByType("resource").reduce((sum, one) => sum + one.transferSize, 0),
    window.__runs.received_bytes,
]"""


@dataclasses.dataclass(frozen=True, slots=True)
class Waited:
    """Seconds from the click until the first chart was drawn (all of a page that has none), and until nothing was
    computed any more; bytes of files of the app itself, and of the page's messages."""

    first_s: float
    whole_s: float
    file_bytes: int
    message_bytes: int


class Screen:
    """One browser window, in which each page is opened in a tab of its own: files of the app are loaded once."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 900})
        self._address = address

    def look(self, path: str) -> Waited:
        """At one page, from nothing."""
        page = self._context.new_page()
        page.add_init_script(RUNS)
        try:
            return self._waited(page, path)
        finally:
            page.close()

    def _waited(self, page: Page, path: str) -> Waited:
        page.goto(f"{self._address}/{path}", wait_until="commit")
        first, whole = (
            float(page.wait_for_function(until, timeout=_LONGEST_MS).json_value()) / 1_000 for until in (_FIRST, _WHOLE)
        )
        files, messages = page.evaluate(_CARRIED)
        return Waited(first, whole, int(files), int(messages))

    def close(self) -> None:
        """And all that it keeps."""
        self._context.close()


@contextlib.contextmanager
def screen(browser: Browser, address: str) -> Iterator[Screen]:
    """A window with an empty cache, until the block ends."""
    window = Screen(browser, address)
    try:
        yield window
    finally:
        window.close()
