"""A page is one file that asks nobody: no script, no address, every picture with words and numbers beside it."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Mapping

import numpy as np
import pytest

from aimass.explain.lineage import Lineage
from aimass.explain.report.drawings import dark_rules, placed
from aimass.explain.report.model_report import model_report
from aimass.explain.report.page import chapter_of, page_of_result
from aimass.explain.results import Result
from tests.support.asked import MeansResult

HOSTILE = '<script>alert("1")</script>'


def means(name: str = "heart@1", *caveats: str) -> MeansResult:
    lineage = Lineage(model=name, model_digest="ab" * 32, rows=7, held_out=True, seed=3, software={"numpy": "2"})
    return MeansResult(lineage=lineage, outputs=("no", HOSTILE), means=np.array([0.25, 0.75]), caveats=caveats)


class Document(html.parser.HTMLParser):
    """What a page holds: elements, ids, links, words and attributes that could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.reaching: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
            if name == "aria-label" and ("role", "img") in attrs:
                self.alts.append(value or "")
            if name.startswith("on") or (name in {"src", "srcset", "action"} and not (value or "").startswith("data:")):
                self.reaching.append(name)


@pytest.fixture(scope="module")
def report() -> str:
    answers = {"gap": means("heart@1", f"Beware {HOSTILE}"), "lpi": means()}
    return model_report(f"heart {HOSTILE}", answers, {"prim": "no labels"}, f"# card {HOSTILE}\n\nwords\n")


def test_nothing_runs_and_nothing_is_fetched(report: str) -> None:
    found = Document(report)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert not found.reaching
    assert all(link.startswith("#") for link in found.links)
    assert set(re.findall(r"https?://[^\"'\s)<]+", report)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "default-src 'none'" in report


def test_every_link_leads_somewhere_and_no_id_stands_twice(report: str) -> None:
    found = Document(report)
    assert len(set(found.ids)) == len(found.ids)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.links) == 6  # in short, two questions with a picture each, the card


def test_questions_come_in_their_order_with_what_could_not_be_answered(report: str) -> None:
    places = [report.index(f"<h2>{title}") for title in ("In short", "Why this", "What the model uses", "Model card")]
    assert places == sorted(places)
    assert "Where the predictions fall: no labels" in report


def test_each_picture_has_words_for_who_cannot_see_it_and_its_numbers(report: str) -> None:
    found = Document(report)
    assert found.alts == ["Means. It says 0.250 on average."] * 2
    assert report.count("<caption>Means</caption>") == 2
    assert report.count("How to read it:") == report.count("It does not show:") == 2


def test_the_header_has_the_lineage_and_the_footer_what_computed_it(report: str) -> None:
    assert "heart@1 abababababab; data: 7 rows, held out" in report
    assert "Computed by numpy 2" in report
    assert report.count("Computed by") == 1


def test_a_page_of_one_result_has_its_caveats_once() -> None:
    text = page_of_result(means("heart@1", "Mind the gap."))
    assert text.count("Mind the gap.") == 1
    assert "<nav" not in text


def test_ids_within_drawings_are_told_apart_and_colours_follow_the_theme() -> None:
    drawn = placed('<svg width="1000" height="5"><g id="a" fill="url(#a)" stroke="#1b1b1b"/></svg>', "one", "alt")
    assert 'id="one-a"' in drawn
    assert "url(#one-a)" in drawn
    assert "min-width:720px" in drawn
    assert '.chart [stroke="#1b1b1b" i]{stroke:#f2f2f2}' in dark_rules()


class Parted(MeansResult, frozen=True, kw_only=True, eq=False, tag="test.parted"):
    """A result whose one view says what it says itself."""

    def views(self) -> Mapping[str, Result]:
        return {"means": means("heart@1", "Mind the gap.")}

    def describe(self) -> tuple[str, ...]:
        return (*super().describe(), "And all together.")


def test_what_a_view_says_is_not_said_above_it_too() -> None:
    whole = Parted(lineage=means().lineage, outputs=("no",), means=np.array([0.25]), caveats=("Mind the gap.",))
    text = chapter_of("Parted", "what it says", whole).html
    said = [text.count(f"<p>{line}</p>") for line in ("It says 0.250 on average.", "And all together.")]
    assert (said, text.count("Mind the gap.")) == ([1, 1], 1)
