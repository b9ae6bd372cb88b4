"""The settings and the pages that docs/explainer.md shows are those that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from aimass.explain.app.pages_table import PAGES
from aimass.explain.app.settings import AppSettings, RowsSetting

DOC = (Path(__file__).parents[3] / "docs" / "explainer.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)


def test_the_settings_in_the_documentation_are_all_there_are_with_their_defaults() -> None:
    assert tomllib.loads(BLOCKS[0]) == msgspec.json.decode(msgspec.json.encode(AppSettings()))


def test_the_rows_in_the_documentation_have_every_key() -> None:
    (shown,) = tomllib.loads(BLOCKS[1])["rows"]
    msgspec.convert(shown, RowsSetting)
    assert set(shown) == set(RowsSetting.__struct_fields__)


def test_every_page_is_told_of_by_its_title() -> None:
    assert [page.title for page in PAGES if f"**{page.title}**" not in DOC] == []
