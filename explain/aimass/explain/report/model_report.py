"""The report of one model over some rows: its card, and the answers to all four questions."""

from __future__ import annotations

from collections.abc import Mapping

from aimass.explain.questions import QUESTIONS, Question
from aimass.explain.report.markup import listed, markdown, paragraphs
from aimass.explain.report.page import Chapter, chapter_of, page
from aimass.explain.results import Result

__all__ = ["model_report"]


def model_report(
    name: str, answers: Mapping[str, Result], refused: Mapping[str, str] | None = None, card: str = ""
) -> str:
    """HTML of the `answers` by question, in the questions' order; `refused` says why others have none.

    `card` is the model card as markdown.
    """
    chapters = [_summary(answers, refused or {})]
    chapters += [chapter_of(one.title, one.asks, answers[one.name]) for one in QUESTIONS if one.name in answers]
    if card:
        chapters.append(Chapter("Model card", f'<div class="card">{markdown(card)}</div>'))
    lines = [answer.lineage.line() for answer in answers.values()]
    lead = lines[0] if lines else "Nothing could be answered."
    return page(f"Report of {name}", lead, chapters, (answer.lineage for answer in answers.values()))


def _summary(answers: Mapping[str, Result], refused: Mapping[str, str]) -> Chapter:
    """What each answer comes to, and what could not be answered."""
    first = [_headline(one, answers[one.name]) for one in QUESTIONS if one.name in answers]
    absent = [f"{one.title}: {refused[one.name]}" for one in QUESTIONS if one.name in refused]
    return Chapter("In short", paragraphs(first) + listed(absent, "doubts"))


def _headline(one: Question, answer: Result) -> str:
    said = answer.headlines()
    return f"{one.title}. {' '.join(said)}" if said else one.title
