"""How the app behaves towards people: files that open, work that survives a reload and is done once, services that die
and come back, links that lead nowhere, and pages that a role may not see."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Route, expect
from scripts.demos.house import House

from tests.explain.app.browser.test_pages import address_of
from tests.support.app_house import ANALYST, Furnished
from tests.support.browser.serving_app import App, explainer, options_of
from tests.support.browser.viewer import Viewer, viewing

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # (whichever test is first founds the house)

_WIDGETS = re.compile(r"/(Selectbox|NumberInput)[^/]*\.js$")
"""What a browser loads when a page shows the first widget of the kind."""
LONG = "gap?model=heart%40champion&rows=many"
"""Work that takes long enough to be met."""


@pytest.fixture
def viewer(browser: Browser, app: App) -> Iterator[Viewer]:
    with viewing(browser, app.address) as found:
        yield found


@pytest.fixture
def fresh(found: Furnished, tmp_path: Path) -> Iterator[App]:
    """An app that has computed nothing yet."""
    with explainer(tmp_path / "fresh", options_of(found, "operator")) as shown:
        yield shown


# ---------------------------------------------------------------- files


def test_the_four_files_of_a_view_are_whole_and_say_the_same(viewer: Viewer, found: Furnished) -> None:
    viewer.open(f"{address_of('runs')}?run={found.runs['heart-fast-1']}")
    viewer.answered()
    viewer.page.locator("[class*='st-key-files-'] button").first.click()
    files = {}
    for kind in ("PNG", "SVG", "CSV", "JSON"):
        name, data = viewer.download(viewer.page.get_by_role("button", name=kind, exact=True))
        assert name.endswith(f".{kind.lower()}")
        files[kind] = data
    picture = Image.open(io.BytesIO(files["PNG"]))
    assert picture.format == "PNG"
    assert min(picture.size) > 200
    assert ET.fromstring(files["SVG"]).tag.endswith("svg")
    rows = list(csv.DictReader(io.StringIO(files["CSV"].decode())))
    assert [row["round"] for row in rows]
    assert json.loads(files["JSON"])["lineage"]["run"] == found.runs["heart-fast-1"]


# ---------------------------------------------------------------- work


@pytest.mark.sight
@pytest.mark.alone
def test_work_survives_a_reload_and_a_second_tab_sees_the_same_work(browser: Browser, fresh: App) -> None:
    with viewing(browser, fresh.address) as one, viewing(browser, fresh.address) as other:
        at_work(one, LONG)
        before = shares(one)
        assert before
        at_work(other, LONG)
        at_work(one, LONG)
        after = shares(one)
        assert all(after.get(title, 100) >= share for title, share in before.items()), "the reload began it anew"
        one.answered()
        other.answered()
        assert one.page.inner_text("[data-testid=stMain]") == other.page.inner_text("[data-testid=stMain]")


def at_work(viewer: Viewer, path: str) -> None:
    """Open a page, anew where it is open, and wait until it shows that it is computed."""
    viewer.page.goto(f"{viewer.address}/{path}")
    expect(viewer.page.get_by_test_id("stProgress").first).to_be_visible()


def shares(viewer: Viewer) -> dict[str, int]:
    """How many per cent are done of what is computed, by what the page calls it; what is done is not shown."""
    told = (re.match(r"(.+): (\d+)\s%", text) for text in viewer.page.get_by_test_id("stProgress").all_inner_texts())
    return {found[1]: int(found[2]) for found in told if found}


def test_work_is_cancelled_and_begun_again(browser: Browser, fresh: App) -> None:
    with viewing(browser, fresh.address) as viewer:
        at_work(viewer, LONG)
        viewer.page.get_by_role("button", name="Cancel").last.click()
        expect(viewer.page.get_by_text("cancelled")).to_have_count(1)
        viewer.page.get_by_role("button", name="Compute again").click()
        expect(viewer.page.get_by_text("cancelled")).to_have_count(0)
        viewer.answered()
        assert viewer.page.get_by_test_id("stVegaLiteChart").count() > 0


# ---------------------------------------------------------------- services that die


def test_a_training_server_that_dies_is_told_and_its_return_is_noticed(viewer: Viewer, house: House) -> None:
    viewer.open(address_of("runs"))
    viewer.answered()
    house.kill("server")
    try:
        viewer.reload()
        expect(viewer.page.get_by_test_id("stAlertContentError").first).to_be_visible()
        assert viewer.see().exceptions == ()
    finally:
        house.start_server()
    expect(viewer.page.get_by_test_id("stAlertContentError")).to_have_count(0)
    viewer.answered()
    assert viewer.page.get_by_test_id("stVegaLiteChart").count() > 0


def test_an_app_that_dies_comes_back_to_the_same_view(browser: Browser, fresh: App, found: Furnished) -> None:
    with viewing(browser, fresh.address) as viewer:
        viewer.open(f"{address_of('runs')}?run={found.runs['heart-slow-1']}")
        viewer.answered()
        fresh.kill()
        expect(viewer.page.get_by_test_id("stConnectionStatus")).to_be_visible()
        fresh.again()
        viewer.reload()
        viewer.answered()
        assert found.runs["heart-slow-1"][:8] in viewer.page.inner_text("[data-testid=stMain]")


# ---------------------------------------------------------------- links and rights


@pytest.mark.sight
@pytest.mark.alone
@pytest.mark.parametrize(
    "path",
    ["runs?run={heart-fast-1}&metric=loss", "lpi?model=heart%40champion&rows=heart&row=3&view=What+if"],
)
def test_a_link_holds_where_a_page_is_run_again_before_its_widgets_have_come(
    viewer: Viewer, found: Furnished, path: str
) -> None:
    held: list[Route] = []
    come: list[bool] = []
    viewer.page.route(_WIDGETS, lambda route: route.continue_() if come else held.append(route))
    viewer.page.goto(f"{viewer.address}/{path.format_map(found.runs)}")
    viewer.page.wait_for_function("() => window.__runs.ended > 0 && !window.__runs.running")
    address, before = viewer.page.url, viewer.runs()
    viewer.page.keyboard.press("r")
    viewer.page.wait_for_function("before => window.__runs.ended > before && !window.__runs.running", arg=before)
    come.append(True)
    for route in held:
        route.continue_()
    viewer.answered()
    viewer.act(lambda: viewer.page.keyboard.press("r"))
    viewer.answered()
    assert held
    assert viewer.page.url == address


@pytest.mark.parametrize(
    "path",
    [
        "?run=ffffffffffffffffffffffffffffffff",
        "gap?model=heart%40999",
        "gap?model=nobody%401",
        "gap?model=heart%401&rows=gone",
    ],
)
def test_a_link_to_what_is_gone_says_so_and_leads_on(viewer: Viewer, path: str) -> None:
    viewer.open(path if path[0] != "?" else address_of("runs") + path)
    expect(viewer.page.get_by_test_id("stAlertContentError")).to_be_visible()
    assert viewer.see().exceptions == ()
    viewer.act(lambda: viewer.page.get_by_role("button", name="Choose another").click())
    expect(viewer.page.get_by_test_id("stAlertContentError")).to_have_count(0)


def test_what_a_role_may_not_see_is_absent(browser: Browser, found: Furnished, tmp_path: Path) -> None:
    with (
        explainer(tmp_path / "analyst", options_of(found, ANALYST)) as shown,
        viewing(browser, shown.address) as viewer,
    ):
        viewer.open()
        assert "Data" not in viewer.page.inner_text("[data-testid=stSidebar]").split("\n")
        viewer.open("data")
        assert viewer.page.inner_text("h1") != "Data"
        assert viewer.see().exceptions == ()
