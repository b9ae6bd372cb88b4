"""What the process has loaded is passed by when garbage is looked for; what cannot be loaded hinders nobody."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator

import pytest
from streamlit import config

from aimass.explain.app.pages_table import PAGES
from aimass.explain.app.serving_app import options_of
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.settling import settle, settled_beside


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_loaded_is_passed_by_and_what_comes_later_is_not() -> None:
    held: list[object] = [{} for _ in range(50_000)]
    settle([])
    assert gc.get_freeze_count() > len(held)
    assert len(gc.get_objects()) < 5_000
    later: list[object] = []
    later.append(later)
    del later
    assert gc.collect() >= 1


def test_pages_are_loaded_before_they_are_asked_for() -> None:
    settled_beside(computing=False).join(60)
    assert {page.module for page in PAGES} <= sys.modules.keys()


def test_what_cannot_be_loaded_is_logged_and_hinders_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "aimass.explain.app"):
        settle(["aimass.no_such_module", "json"])
    assert "aimass.no_such_module" in caplog.text
    assert gc.get_freeze_count() > 0


def test_no_viewer_waits_for_a_whole_collection_after_another_ones_run() -> None:
    """The option is Streamlit's own, and hidden: it has to be there under this name."""
    name = "runner.postScriptGC"
    assert options_of(AppSettings())[name] is False
    assert config.get_option(name) is True
