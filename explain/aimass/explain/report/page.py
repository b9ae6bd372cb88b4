"""A page of results: what they say, their pictures, how to read them and what they do not show, in one HTML file.

Pictures are SVG, about 30 to 200 kB each, where Vega's own script would be 800 kB once: so a page has no script at all,
asks nobody for anything, prints, and is read aloud by its tables.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Iterable, Iterator, Sequence

from aimass.explain.charts.rendering import svg_of
from aimass.explain.lineage import Lineage
from aimass.explain.report.drawings import dark_rules, placed
from aimass.explain.report.markup import escaped, listed, paragraphs, slug, table
from aimass.explain.results import Result
from aimass.explain.words import joined

__all__ = ["Chapter", "chapter_of", "page", "page_of_result"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclasses.dataclass(frozen=True)
class Chapter:
    """A heading with HTML below; `parts` are the headings within, by their ids.

    Something of `rows` single rows or images stands in it.
    """

    title: str
    html: str
    parts: tuple[tuple[str, str], ...] = ()
    rows: int = 0

    @property
    def id(self) -> str:
        """By which the table of contents finds it."""
        return slug(self.title)


def page(title: str, lead: str, chapters: Sequence[Chapter], lineages: Iterable[Lineage] = ()) -> str:
    """A whole HTML document. It is lead by a line of text, `lead`, and ends with what it is of."""
    body = "".join(f'<section id="{one.id}"><h2>{escaped(one.title)}</h2>{one.html}</section>' for one in chapters)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escaped(title)}</title><style>{_style()}</style></head><body>"
        f'<header><h1>{escaped(title)}</h1><p class="of">{escaped(lead)}</p></header>'
        f"{_contents(chapters)}<main>{body}</main>{_footer(lineages, chapters)}</body></html>\n"
    )


def _style() -> str:
    sheet = importlib.resources.files(__package__).joinpath("style.css").read_text("utf-8")
    return f"{sheet}@media(prefers-color-scheme:dark){{{dark_rules()}}}"


def _contents(chapters: Sequence[Chapter]) -> str:
    if len(chapters) < 2:
        return ""
    return f'<nav aria-label="Contents"><h2>Contents</h2><ol>{"".join(map(_entry, chapters))}</ol></nav>'


def _entry(chapter: Chapter) -> str:
    below = "".join(f'<li><a href="#{one}">{escaped(title)}</a></li>' for one, title in chapter.parts)
    inner = f"<ol>{below}</ol>" if below else ""
    return f'<li><a href="#{chapter.id}">{escaped(chapter.title)}</a>{inner}</li>'


def _footer(lineages: Iterable[Lineage], chapters: Sequence[Chapter]) -> str:
    """What each result is of, and what computed it, once for all that are of the same, and whose rows are in it."""
    told = dict.fromkeys(line for lineage in lineages for line in _lineage(lineage))
    if held := [f"{one.rows:,} in \u201c{one.title}\u201d" for one in chapters if one.rows]:
        told[
            f"Something of single rows or images stands in this file: of {joined(held)}. Keep it as you keep them."
        ] = None
    return f"<footer><h2>What this is of</h2>{listed(list(told))}</footer>" if told else ""


def _lineage(lineage: Lineage) -> Iterator[str]:
    yield f"Model {lineage.model}, SHA-256 of its parameters {lineage.model_digest or 'not known: it is a function'}"
    data = lineage.data or "without a name"
    yield f"Data {data}, {lineage.rows:,} rows, SHA-256 {lineage.data_digest or 'not known'}"
    if lineage.seed is not None:
        yield f"Seed {lineage.seed}"
    yield "Computed by " + ", ".join(f"{name} {version}" for name, version in sorted(lineage.software.items()))


def chapter_of(title: str, asks: str, result: Result) -> Chapter:
    """A result with all its views; what a view says itself is not said above it too."""
    begun = slug(title)
    views = {f"{begun}-{slug(name)}": view for name, view in result.views().items()}
    parts = [(called, view.picture().title) for called, view in views.items()]
    said = frozenset(line for view in views.values() for line in (*view.describe(), *view.warnings()))
    says = paragraphs(line for line in result.describe() if line not in said)
    doubts = listed([line for line in result.warnings() if line not in said], "doubts")
    asked = f'<p class="asks">{escaped(asks)}.</p>' if asks else ""
    body = "".join(_view(called, view) for called, view in views.items())
    return Chapter(title, asked + says + doubts + body, tuple(parts), result.rows_held)


def _view(name: str, view: Result) -> str:
    """One picture: its sentences, the drawing, how to read it, what it does not show, and its numbers."""
    picture, sentences = view.picture(), view.describe()
    drawn = placed(
        svg_of(dataclasses.replace(picture, title="")), name, escaped(". ".join((picture.title, *sentences)))
    )
    not_shown = f" <strong>It does not show:</strong> {escaped(picture.shows_not)}" if picture.shows_not else ""
    return (
        f'<article id="{name}"><h3>{escaped(picture.title)}</h3>{paragraphs(sentences)}'
        f"<figure>{drawn}"
        f"<figcaption><strong>How to read it:</strong> {escaped(picture.how_to_read)}{not_shown}</figcaption></figure>"
        f"{listed([line for line in view.warnings() if line not in picture.shows_not], 'doubts')}"
        f"<details><summary>The numbers</summary>{table(view.to_columns(), picture.title)}</details></article>"
    )


def page_of_result(result: Result, title: str = "", asks: str = "") -> str:
    """A page of one result."""
    said = (
        title or result.picture().title
        if len(result.views()) == 1
        else title or f"Explanation of {result.lineage.model}"
    )
    return page(said, result.lineage.line(), (chapter_of(said, asks, result),), (result.lineage,))
