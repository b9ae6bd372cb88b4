"""The page of GAP: a model and rows by the address, the views of the library, and honest words where one is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.explain.app.settings import AppSettings, RowsSetting
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.support.datasets import dataset
from tests.support.served_heart import publish_heart


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    folder = tmp_path_factory.mktemp("registry")
    url, trust = publish_heart(folder)
    rows = RowsSetting(
        name="hungarian", files=(str(dataset("heart") / "hungarian.parquet"),), task="heart", held_out=True
    )
    return AppSettings(registry=url, trust=str(trust), rows=(rows,))


def test_a_link_shows_the_model_and_the_rows_that_it_names(opened: Opened, registry: AppSettings) -> None:
    page = opened("gap", registry, model="heart@1", rows="hungarian")
    while page.get("progress"):
        page.run()
    assert not page.exception
    assert page.selectbox(key="model").value == "heart@1"
    assert "held out" in said(page)
    assert len(page.get("vega_lite_chart")) >= 3


def test_a_link_to_a_model_that_is_gone_says_so_and_offers_others(opened: Opened, registry: AppSettings) -> None:
    page = opened("gap", registry, model="heart@99")
    assert "app.gone" in said(page)
    page.button(key="clear-model").click().run()
    assert page.selectbox(key="model").value == "heart@champion"


def test_without_a_model_the_page_says_what_to_do(opened: Opened, tmp_path: Path) -> None:
    page = opened("gap", AppSettings())
    assert "There is no model to explain" in said(page)
    assert page.code
