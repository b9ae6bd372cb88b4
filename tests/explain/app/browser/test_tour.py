"""The tour, walked in a browser: each link leads to what was chosen, and what the tour answers stands on that page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser

from aimass.explain.app.tour_steps import STEPS
from tests.explain.app.views.rows import heart_settings
from tests.support.browser.serving_app import App, explainer
from tests.support.browser.viewer import Viewer, viewing

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Over a registry and rows alone: no run made its model, so the tour begins with what it leans on."""
    folder = tmp_path_factory.mktemp("hospitals")
    settings = heart_settings(folder, rows=40)
    options = ["--registry", settings.registry, "--trust", settings.trust, "--task", "heart", "--held-out"]
    for rows in settings.rows:
        options += [part for file in rows.files for part in ("--rows", f"{rows.name}={file}")]
    with explainer(tmp_path_factory.mktemp("app"), options) as app:
        yield app


@pytest.mark.parametrize("which", ["both", "few"])
def test_the_links_of_the_tour_lead_to_its_answers(browser: Browser, hospitals: App, which: str) -> None:
    """Rows of two hospitals, which are the first that the page offers, and of one, which are not."""
    with viewing(browser, hospitals.address) as viewer:
        viewer.open(f"tour?rows={which}")
        main = viewer.page.locator("[data-testid=stMain]")
        answers: dict[str, list[str]] = {}
        for place, step in enumerate(STEPS):
            toggle = main.locator("label", has_text="Show the answer").nth(place)
            viewer.act(toggle.click)
            viewer.answered()
            answers[step.name] = [_even(said) for said in main.locator("blockquote").all_inner_texts()]
            viewer.act(toggle.click)
        assert all(answers.values())
        for place, step in enumerate(STEPS):
            main.locator("a").nth(place).click()
            viewer.page.wait_for_url(f"**/{step.page}?**")
            viewer.settle()
            viewer.answered()
            asked = parse_qs(urlsplit(viewer.page.url).query)
            assert (asked["model"], asked["rows"]) == (["heart@champion"], [which])
            assert [said for said in answers[step.name] if said not in _even(main.inner_text())] == []
            assert _wrong(viewer) == []
            viewer.open(f"tour?rows={which}")


def _even(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _wrong(viewer: Viewer) -> list[str]:
    seen = viewer.see()
    return [*seen.exceptions, *seen.errors, *viewer.complaints]
