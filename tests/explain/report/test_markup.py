"""Words from outside stay words: cards, names and cells cannot become markup, and a table says what it leaves out."""

from __future__ import annotations

import html.parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.report.markup import markdown, slug, table

CARD = """# heart, version 3

Published by olga. Licence: none.

- Task: heart, `0123`
- On <b>no</b> base

## How good it is

| metric | mean |
| --- | --- |
| a\\|c | 0.9 |
"""


def test_a_card_keeps_its_headings_lists_tables_and_code() -> None:
    assert markdown(CARD) == (
        "<h3>heart, version 3</h3><p>Published by olga. Licence: none.</p>"
        "<ul><li>Task: heart, <code>0123</code></li><li>On &lt;b&gt;no&lt;/b&gt; base</li></ul>"
        "<h4>How good it is</h4>"
        '<div class="wide" tabindex="0"><table><thead><tr><th>metric</th><th>mean</th></tr></thead>'
        "<tbody><tr><td>a|c</td><td>0.9</td></tr></tbody></table></div>"
    )


class Tags(html.parser.HTMLParser):
    """Which elements stand in a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


HOSTILE = st.lists(
    st.sampled_from(
        ["<script>", "`", "|", "# ", "- ", "\n", "\\", "<img onerror=", '"', "'", "a", "&lt;", "*", "[x](y)"]
    )
).map("".join)


@given(HOSTILE)
def test_no_card_can_bring_an_element_of_its_own(card: str) -> None:
    found = Tags(markdown(card))
    assert not found.found - {
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "ul",
        "li",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
    }
    assert not found.attributes - {"class", "tabindex"}


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_cell_name_or_caption_can_either(name: str, cell: str, caption: str) -> None:
    found = Tags(table({name: [cell]}, caption))
    assert found.found == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_a_long_table_says_how_many_rows_it_has() -> None:
    text = table({"n": range(1_234), "x": [float("nan")] * 1_234}, "Numbers")
    assert text.count("<tr>") == 101
    assert "Numbers; the first 100 of 1,234 rows" in text
    assert "nan" not in text.replace("Numbers", "")


@pytest.mark.parametrize(("title", "id_"), [("What it uses", "what-it-uses"), ('a"<b>', "a-b"), ("…", "part")])
def test_ids_are_plain(title: str, id_: str) -> None:
    assert slug(title) == id_
