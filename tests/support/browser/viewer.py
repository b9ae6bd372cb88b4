"""One person before a Streamlit app: opens pages, acts, waits until the app has answered, and looks.

Waiting is on Streamlit's own messages (`runs.js`), never on time. The limits are for apps that hang.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, expect

__all__ = ["CHROMIUM", "RUNS", "Seen", "Theme", "Viewer", "chromium", "viewing"]

Theme = Literal["light", "dark"]
CHROMIUM: Final = "/usr/bin/chromium"
_FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip
_HERE: Final = Path(__file__).parent
RUNS: Final = (_HERE / "runs.js").read_text()
_SIGHTS: Final = (_HERE / "sights.js").read_text()
_GRAVE: Final = ("serious", "critical")
_ANSWER_S: Final = 60.0
_WORK_S: Final = 240.0


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What is wrong with a page at first sight; `clipped` texts end before their end."""

    exceptions: tuple[str, ...]
    errors: tuple[str, ...]
    wide: tuple[str, ...]
    cut: tuple[str, ...]
    clipped: tuple[str, ...]


class Viewer:
    """`page` is Playwright's; what the browser's console complains of is in `complaints`."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address.rstrip("/")
        self.complaints: list[str] = []
        page.add_init_script(RUNS)
        page.set_default_timeout(1_000 * _ANSWER_S)
        expect.set_options(timeout=1_000 * _ANSWER_S)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        # Streamlit looks for its server below the page's own address first, and then one step up.
        if message.type == "error" and "/_stcore/" not in message.location.get("url", ""):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    # ---------------------------------------------------------------- acting

    def open(self, path: str = "") -> None:
        """A page by its address below the app's, until it stands there or says that it is computed."""
        self.page.goto(f"{self.address}/{path.lstrip('/')}")
        self.page.wait_for_function("() => window.__shown && window.__shown()")

    def reload(self) -> None:
        """As F5 does."""
        self.page.reload()
        self.settle()

    def act(self, do: Callable[[], object]) -> None:
        """Do what makes the app run, and wait until it has. Where a page runs by itself too, that may be the run that is
        waited for: then expect what the deed shows."""
        before = self.runs()
        do()
        self.settle(before)

    def settle(self, before: int = 0) -> None:
        """Until more than `before` runs of this page have ended and all they said is on the screen."""
        self.page.wait_for_function("before => window.__settled && window.__settled(before)", arg=before)

    def choose(self, label: str, option: str) -> None:
        """In a list by its label, an option by what it says or begins with."""
        box = self.page.get_by_role("combobox", name=label, exact=True)
        box.scroll_into_view_if_needed()  # (a list closes when its page is scrolled)
        box.click()
        chosen = self.page.get_by_role("option", name=re.compile(rf"^{re.escape(option)}(\b|$)"))
        self.act(chosen.first.click)

    def turn(self, tab: Locator) -> None:
        """To a tab, and until what it shows is there: some ask the app for it, some have it already."""
        tab.click()
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.settle()
        self.answered()

    def answered(self) -> None:
        """Until nothing is computed in the background."""
        self.page.wait_for_function("() => window.__answered && window.__answered()", timeout=1_000 * _WORK_S)

    def runs(self) -> int:
        """How many runs have ended since the page was loaded."""
        return int(self.page.evaluate("() => window.__runs.ended"))

    def download(self, button: Locator) -> tuple[str, bytes]:
        """The name and the bytes of what a button downloads."""
        with self.page.expect_download() as coming:
            button.click()
        return coming.value.suggested_filename, Path(coming.value.path()).read_bytes()

    # ---------------------------------------------------------------- looking

    def see(self) -> Seen:
        """What is wrong at first sight."""
        found = self.page.evaluate(_SIGHTS)
        return Seen(**{name: tuple(texts) for name, texts in found.items()})

    def barriers(self) -> list[str]:
        """What keeps people out, by axe-core: its serious and critical findings, one line each."""
        response: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{found['id']} ({found['impact']}): {found['help']}: "
            + "; ".join(f"{' '.join(map(str, node['target']))} {node['html'][:160]}" for node in found["nodes"][:5])
            for found in response["violations"]
            if found["impact"] in _GRAVE
        ]

    def picture(self, path: Path) -> Path:
        """The whole page, however long, as a PNG file."""
        height = self.page.evaluate(
            "() => Math.max(...[...document.querySelectorAll('[data-testid=stMain], [data-testid=stSidebarContent]')]"
            ".map(box => box.scrollHeight), 600)"
        )
        width = self.page.viewport_size or {"width": 1280, "height": 800}
        self.page.set_viewport_size({"width": width["width"], "height": min(int(height) + 20, 8_000)})
        self.page.wait_for_function("() => window.__settled(0)")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(width)
        return path

    def walk(self, most: int = 400) -> list[str]:
        """What the tabulator key comes to, from the top of the page until it comes round."""
        self.page.evaluate("() => { document.activeElement?.blur(); window.getSelection()?.removeAllRanges(); }")
        names: list[str] = []
        for _ in range(most):
            self.page.keyboard.press("Tab")
            name = self.page.evaluate(_FOCUSED)
            if name is None:
                break
            names.append(name)
        return names

    def reachable(self) -> list[str]:
        """What a mouse could use, by the same names as in `walk`."""
        return list(self.page.evaluate(_REACHABLE))

    def texts(self, pattern: str) -> list[str]:
        """What of the page's text fits a pattern."""
        return re.findall(pattern, self.page.inner_text("[data-testid=stApp]"))


_USABLE: Final = "[data-testid=stApp] :is(button, a[href], input, textarea, select, [role=slider], [role=tab])"
_NAMING: Final = """
  const usable = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) &&
    !element.disabled && element.tabIndex >= 0 && !element.closest("[aria-hidden=true]");
  const name = (element) => `${element.tagName.toLowerCase()} ${element.getAttribute("aria-label") ||
    element.innerText || element.getAttribute("placeholder") || element.dataset.testid || ""}`.trim().slice(0, 80);
"""
_FOCUSED: Final = (
    "() => {"
    + _NAMING
    + " const one = document.activeElement; return one && one !== document.body ? name(one) : null; }"
)
_REACHABLE: Final = (
    "() => {" + _NAMING + f" return [...document.querySelectorAll({_USABLE!r})].filter(usable).map(name); }}"
)


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's browser, without a window, until the block ends."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(_FLAGS))
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def viewing(browser: Browser, address: str, *, width: int = 1280, theme: Theme = "light") -> Iterator[Viewer]:
    """A person with a window of this width and a system of this theme, whose cookies nobody shares."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, accept_downloads=True, reduced_motion="reduce",
        locale="en-GB", timezone_id="Asia/Kolkata",
    )  # fmt: skip
    try:
        yield Viewer(context.new_page(), address)
    finally:
        context.close()
