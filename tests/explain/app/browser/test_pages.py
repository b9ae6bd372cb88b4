"""Each page at both widths and in both themes: without errors, without barriers, and within its window.

The pictures are in browser-output/, to be looked at by a person.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from aimass.explain.app.pages_table import PAGES
from tests.support.browser.serving_app import App
from tests.support.browser.viewer import Theme, Viewer, viewing

pytestmark = pytest.mark.browser

NAMES = [page.name for page in PAGES if importlib.util.find_spec(page.module)]
TITLES = {page.name: page.title for page in PAGES}
FIRST = NAMES[0]
MODELS = {"heart": "?model=heart%40champion&rows=heart", "clothes": "?model=fashion%40champion&rows=clothes"}
ASKED = (("lpi", "heart"), ("gap", "heart"), ("prim", "heart"), ("segviz", "heart"), ("lpi", "clothes"))
"""Pages of models, and what models they are asked of, beside what they open with."""
LOOKS = [*((name, "") for name in NAMES), *((name, MODELS[which]) for name, which in ASKED if name in NAMES)]


def address_of(name: str) -> str:
    """Below the app's: the first page is the app's own."""
    return "" if name == FIRST else name


def faults(viewer: Viewer) -> list[str]:
    """All that is wrong with what is shown, in words."""
    seen = viewer.see()
    return [
        *(f"exception: {text}" for text in seen.exceptions),
        *(f"error: {text}" for text in seen.errors),
        *(f"wider than its window: {text}" for text in seen.wide),
        *(f"goes beyond its window: {text}" for text in seen.cut),
        *(f"text is cut: {text}" for text in seen.clipped),
        *(f"barrier: {line}" for line in viewer.barriers()),
        *(f"the browser says: {line}" for line in viewer.complaints),
        *unread(viewer),
    ]


def unread(viewer: Viewer) -> list[str]:
    """What has a chart has files of it, and says how it is read and what it does not show."""
    page = viewer.page
    charts = page.locator("[data-testid=stVegaLiteChart]:visible").count()
    files = page.locator("[class*='st-key-files-']").count()
    said = [len(viewer.texts(words)) for words in ("How to read this:", "What it does not show:")]
    if said == [files, files] and (files > 0) >= (charts > 0):
        return []
    return [f"{charts} charts, files of {files}; {said[0]} say how to read them, and {said[1]} what they do not show"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768])
@pytest.mark.parametrize(("name", "query"), LOOKS)
def test_a_page_is_whole(
    browser: Browser, app: App, pictures: Path, name: str, query: str, width: int, theme: Theme
) -> None:
    with viewing(browser, app.address, width=width, theme=theme) as viewer:
        viewer.open(address_of(name) + query)
        viewer.answered()
        of = query.partition("=")[2].partition("%")[0]
        picture = f"{name}{of and '-'}{of}-{width}-{theme}"
        viewer.picture(pictures / f"{picture}.png")
        assert faults(viewer) == []
        for number, tab in enumerate(viewer.page.locator("[data-testid=stMain] [role=tab]").all()[1:], 2):
            viewer.turn(tab)
            viewer.picture(pictures / f"{picture}-{number}.png")
            assert faults(viewer) == []
        assert viewer.page.get_by_role("heading", level=1).count() == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_keyboard_comes_to_all_of_a_page(browser: Browser, app: App, name: str) -> None:
    with viewing(browser, app.address) as viewer:
        viewer.open(address_of(name))
        viewer.answered()
        walked = viewer.walk()
        assert [one for one in viewer.reachable() if one not in walked] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_address_of_a_page_shows_another_viewer_the_same(browser: Browser, app: App, name: str) -> None:
    with viewing(browser, app.address) as one, viewing(browser, app.address) as other:
        one.open(address_of(name))
        one.answered()
        other.open(one.page.url.removeprefix(app.address))
        other.answered()
        assert other.page.url == one.page.url
        assert other.page.inner_text("h1") == one.page.inner_text("h1")
        assert chosen(other) == chosen(one)


def chosen(viewer: Viewer) -> list[str]:
    """What each widget of the page says."""
    return list(
        viewer.page.evaluate(
            """() => [...document.querySelectorAll("[data-testid=stMain] :is(input, textarea, [role=slider], [data-testid=stSelectbox])")]
            .map((one) => one.type === "checkbox" || one.type === "radio" ? String(one.checked)
              : one.getAttribute("aria-valuetext") || one.value || one.innerText || "")"""
        )
    )
