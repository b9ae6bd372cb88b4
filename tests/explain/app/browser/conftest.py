"""One house and one app for all files, and a browser for each: Playwright's loop would stand in the way of tests that
have their own. Both end with this folder's tests: those that measure time may come after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from scripts.demos.house import House

from tests.support.app_house import Furnished, furnished
from tests.support.browser.serving_app import App, explainer, options_of
from tests.support.browser.viewer import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, chromium(playwright) as found:
        yield found


@pytest.fixture(scope="package")
def furnished_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Furnished]]:
    with furnished(tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.fixture(scope="package")
def house(furnished_house: tuple[House, Furnished]) -> House:
    """Its processes."""
    return furnished_house[0]


@pytest.fixture(scope="package")
def found(furnished_house: tuple[House, Furnished]) -> Furnished:
    """Where everything is."""
    return furnished_house[1]


@pytest.fixture(scope="package")
def app(found: Furnished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """As an operator, who may see every page."""
    with explainer(tmp_path_factory.mktemp("app"), options_of(found, "operator")) as shown:
        yield shown


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where pictures of pages go, to be looked at."""
    return Path("browser-output")
