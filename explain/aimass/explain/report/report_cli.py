"""`aimass explain report MODEL`: all questions about it and the model card in one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aimass.explain.question_cli import add_subject, add_work, answered, opened, work_of
from aimass.proto.console import common, emit, write_output

if TYPE_CHECKING:
    from aimass.explain.images import Images
    from aimass.explain.opening import Subject
    from aimass.explain.results import Result
    from aimass.explain.rows import Rows
    from aimass.explain.work import Work

__all__ = ["add_verbs"]


def add_verbs(commands: Any) -> None:
    """Add `report`."""
    verb = commands.add_parser(
        "report", help="all questions and the model card as one HTML file", description="It opens offline."
    )
    add_subject(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    add_work(verb)
    common(verb, _report)


def _report(args: argparse.Namespace) -> int:
    from aimass.explain.report.model_report import model_report

    subject, rows = opened(args)
    with work_of(args) as work:
        answers, refused = _answers(args, subject, rows, work)
    model = subject.model_for(_kind(subject), rows).name
    data = model_report(model, answers, refused, subject.card).encode()
    write_output(args.out, data)
    emit(args, {"written": str(args.out), "bytes": len(data), "answers": list(answers), "refused": refused})
    return 0


def _kind(subject: Subject) -> Literal["rows", "images"]:
    return "rows" if subject.images is None else "images"


def _answers(
    args: argparse.Namespace, subject: Subject, rows: Rows | Images, work: Work
) -> tuple[dict[str, Result], dict[str, str]]:
    """What can be answered by default options, and why something cannot: rows without labels, say."""
    from aimass.explain.questions import QUESTIONS, Asking
    from aimass.proto.errors import BadInput

    here = {one.name: one for one in QUESTIONS if one.here and one.of == _kind(subject)}
    model, answers, refused = subject.model_for(_kind(subject), rows), {}, {}
    for name, part in work.parts(tuple(here)):
        asking = Asking(here[name], model, rows, here[name].options())
        try:
            answers[name] = answered(args, asking, part)
        except BadInput as error:
            refused[name] = error.sentence()
    return answers, refused
