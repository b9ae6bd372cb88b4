"""Which models a page offers: those that can answer it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.explain.app.choosing import _fits, kind_of
from aimass.proto.task import load, locate
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.views.rows import heart_settings

ROWS, PIXELS, IMAGES = ("rows",), ("rows", "pixels"), ("rows", "images", "texts")


@pytest.mark.parametrize(
    ("task", "kind", "offered_to"),
    [
        ("heart", "rows", [ROWS, PIXELS, IMAGES]),
        ("fashion", "images", [IMAGES]),
        ("nuclei", "pixels", [PIXELS, IMAGES]),
        ("reviews", "texts", [IMAGES]),
    ],
)
def test_a_model_is_offered_to_the_pages_that_can_ask_it(
    task: str, kind: str, offered_to: list[tuple[str, ...]]
) -> None:
    assert kind_of(load(locate(task)).schema) == kind
    assert [kinds for kinds in (ROWS, PIXELS, IMAGES) if _fits(kind, kinds)] == offered_to


def test_what_a_link_names_and_is_gone_is_said_in_words_that_fit(opened: Opened, tmp_path: Path) -> None:
    settings = heart_settings(tmp_path, rows=10)
    assert "The link names a value of “Rows” that is not here**: gone" in said(opened("gap", settings, rows="gone"))
    assert "The link names a model that is not here**: heart@9" in said(opened("gap", settings, model="heart@9"))


def test_a_model_of_which_nobody_knows_what_it_takes_is_offered_and_seen_later() -> None:
    assert _fits("", ROWS)
