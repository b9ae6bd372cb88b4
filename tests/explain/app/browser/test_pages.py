"""Each page at both widths and in both themes: without errors, without barriers, and within its window.

The pictures are in browser-output/, to be looked at by a person.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
from playwright.sync_api import Browser

from aimass.explain.app.pages_table import PAGES
from tests.support.browser.serving_app import App
from tests.support.browser.viewer import Theme, Viewer, viewing

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # (whichever test is first founds the house)

NAMES = [page.name for page in PAGES if importlib.util.find_spec(page.module)]
FIRST = NAMES[0]
MODELS = {"heart": "?model=heart%40champion&rows=heart", "clothes": "?model=fashion%40champion&rows=clothes"}
ASKED = (("lpi", "heart"), ("gap", "heart"), ("prim", "heart"), ("segviz", "heart"), ("lpi", "clothes"))
"""Pages of models, and what models they are asked of, beside what they open with."""
LOOKS = [
    (name, query, width, theme)
    for name, query in (*((name, "") for name in NAMES), *((name, MODELS[which]) for name, which in ASKED))
    for width in (1280, 768)
    for theme in ("light", "dark")
]


FIRST_SIGHT = ("", 1280, "light")
"""The look at a page that tests share."""
CHOICES = {
    "home": ("", "New since", "a week ago", "since=week"),
    "tour": ("", "Model", "heart, version 1", "model=heart@1"),
    "runs": ("", "Metric", "every metric", "metric=every metric"),
    "compare": ("", "Which way is better", "lower", "better=lower"),
    "parameters": ("", "Layer", "output.weight", "layer=output.weight"),
    "lpi": (MODELS["heart"], "Label that is explained", "no", "output=no"),
    "gap": (MODELS["heart"], "Label that values and curves are of", "no", "output=no"),
    "prim": ("", "Model", "heart, version 1", "model=heart@1"),
    "segviz": ("", "Model", "heart, version 1", "model=heart@1"),
    "models": ("", "Model", "heart", "registered=heart"),
    "privacy": ("", "Run", "heart-stopped", "run="),
}
"""What is chosen on a page that leaves a choice in this house: its address, the question, the answer, what is kept of it
in the address."""


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each page, all tests of one after another."""
    return str(request.param)


@pytest.fixture(scope="module")
def shown(browser: Browser, app: App, name: str) -> Iterator[Viewer]:
    """A page as it opens, once it is answered: for all tests that do no more than look at it."""
    with viewing(browser, app.address) as viewer:
        viewer.open(address_of(name))
        viewer.answered()
        yield viewer


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


@pytest.mark.sight
@pytest.mark.alone
def test_the_keyboard_comes_to_all_of_a_page(shown: Viewer) -> None:
    walked = shown.walk()
    assert [one for one in shown.reachable() if one not in walked] == []


@pytest.mark.sight
@pytest.mark.alone
def test_a_page_is_whole_at_first_sight(shown: Viewer, pictures: Path, name: str) -> None:
    look_through(shown, pictures / f"{name}-1280-light")


@pytest.mark.sight
@pytest.mark.alone
def test_the_address_of_a_page_shows_another_viewer_the_same(browser: Browser, app: App, shown: Viewer) -> None:
    with viewing(browser, app.address) as other:
        other.open(shown.page.url.removeprefix(app.address))
        other.answered()
        assert_same(other, shown)


@pytest.mark.parametrize(("page", "query", "width", "theme"), [look for look in LOOKS if look[1:] != FIRST_SIGHT])
def test_a_page_is_whole(
    browser: Browser, app: App, pictures: Path, page: str, query: str, width: int, theme: Theme
) -> None:
    with viewing(browser, app.address, width=width, theme=theme) as viewer:
        viewer.open(address_of(page) + query)
        viewer.answered()
        of = query.partition("=")[2].partition("%")[0]
        look_through(viewer, pictures / f"{page}{of and '-'}{of}-{width}-{theme}")


def look_through(viewer: Viewer, picture: Path) -> None:
    """A page and all its tabs: pictures, and no faults."""
    viewer.picture(picture.with_suffix(".png"))
    assert faults(viewer) == []
    for number, tab in enumerate(viewer.page.locator("[data-testid=stMain] [role=tab]").all()[1:], 2):
        viewer.turn(tab)
        viewer.picture(picture.with_name(f"{picture.name}-{number}.png"))
        assert faults(viewer) == []
    assert viewer.page.get_by_role("heading", level=1).count() == 1


@pytest.mark.parametrize("page", CHOICES)
def test_what_is_chosen_on_a_page_is_shown_to_another_viewer(browser: Browser, app: App, page: str) -> None:
    query, label, option, kept = CHOICES[page]
    with viewing(browser, app.address) as one, viewing(browser, app.address) as other:
        one.open(address_of(page) + query)
        one.answered()
        one.choose(label, option)
        one.answered()
        assert kept in unquote_plus(one.page.url)
        other.open(one.page.url.removeprefix(app.address))
        other.answered()
        assert_same(other, one)


def assert_same(other: Viewer, one: Viewer) -> None:
    """Both are at one address, and see the same page, tab and choices."""
    assert other.page.url == one.page.url
    for seen in ("h1", "[role=tab][aria-selected=true]"):
        assert other.page.locator(seen).all_inner_texts() == one.page.locator(seen).all_inner_texts()
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
