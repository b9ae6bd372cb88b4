"""The app without a browser: Streamlit's AppTest over a house of real values, with the services' seams in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House, enter
from aimass.explain.app.settings import AppSettings
from aimass.explain.cache import ResultCache

Opened = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _main_stays() -> Iterator[None]:
    """Streamlit makes its script the main module, which processes that later tests spawn would run again."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def entered(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Makes a house of settings the one that is shown; its results are kept in the test's own folder."""

    def make(settings: AppSettings, **seams: Any) -> House:
        house = House(settings, **seams)
        house.results = ResultCache(tmp_path / "results")
        enter(house)
        return house

    yield make
    enter(None)


@pytest.fixture
def opened(entered: Callable[..., House]) -> Opened:
    """A page by its name, with the address's parameters, run once; `seams` are those of `House`."""

    def open_(
        page: str, settings: AppSettings | None = None, *, seams: Mapping[str, Any] | None = None, **address: str
    ) -> AppTest:
        entered(settings or AppSettings(), **(seams or {}))
        return opened_page(page, **address)

    return open_


def opened_page(page: str, **address: str) -> AppTest:
    """A page of the house that is entered."""
    test = AppTest.from_function(_script, kwargs={"page": page}, default_timeout=120)
    for name, value in address.items():
        test.query_params[name] = value
    return test.run()


def _script(page: str) -> None:
    from aimass.explain.app.front import show_page

    show_page(page)
