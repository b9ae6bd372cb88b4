"""`aimass explain report MODEL`: all questions about it and the model card in one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aimass.explain.question_cli import add_subject, add_work, answered, opened, work_of
from aimass.proto.console import common, emit, write_output
from aimass.proto.errors import BadInput

if TYPE_CHECKING:
    from aimass.explain.images import Images
    from aimass.explain.opening import Subject
    from aimass.explain.questions import Question
    from aimass.explain.results import Result
    from aimass.explain.rows import Rows
    from aimass.explain.texts import Texts
    from aimass.explain.work import Work
    from aimass.proto.values import Value

__all__ = ["add_verbs"]


def add_verbs(commands: Any) -> None:
    """Add `report`."""
    verb = commands.add_parser(
        "report", help="all questions and the model card as one HTML file", description="It opens offline."
    )
    add_subject(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    verb.add_argument(
        "--row",
        type=int,
        default=0,
        help="which row's prediction is explained: 0 is the first, which the report calls row 1 (0)",
    )
    add_work(verb)
    common(verb, _report)


def _report(args: argparse.Namespace) -> int:
    from aimass.explain.report.model_report import model_report

    if args.out.is_dir():
        raise BadInput("the report is a file, and a folder stands there", code="explain.out", value=args.out)
    subject, rows = opened(args)
    if not 0 <= args.row < len(rows):
        raise BadInput("there is no such row", code="explain.row", value=args.row, limit=f"0 to {len(rows) - 1}")
    with work_of(args) as work:
        answers, refused = _answers(args, subject, rows, work)
    model = subject.model_for(subject.kind, rows).name
    data = model_report(model, answers, refused, subject.card).encode()
    write_output(args.out, data, 0o600 if any(answer.rows_held for answer in answers.values()) else 0o644)
    emit(args, {"written": str(args.out), "bytes": len(data), "answers": list(answers), "refused": refused})
    return 0


def _answers(
    args: argparse.Namespace, subject: Subject, rows: Rows | Images | Texts, work: Work
) -> tuple[dict[str, Result], dict[str, str]]:
    """What can be answered, and why something cannot: rows without labels, say. Where nothing can, the error itself."""
    from aimass.explain.questions import QUESTIONS, Asking
    from aimass.proto.errors import LimitExceeded

    here = {one.name: one for one in QUESTIONS if one.here and one.of == subject.kind}
    model, answers, refused = subject.model_for(subject.kind, rows), {}, {}
    for name, part in work.parts(tuple(here)):
        try:
            asking = Asking(here[name], model, rows, _options(here[name], args.row))
            answers[name] = answered(args, asking, part)
        except (BadInput, LimitExceeded) as error:
            if not answers and name == [*here][-1]:
                raise
            refused[name] = error.sentence()
    return answers, refused


def _options(one: Question, row: int) -> Value:
    """The defaults, for the row that was named where the question is of one."""
    kind = one.options
    return msgspec.convert({"row": row} if "row" in kind.__struct_fields__ else {}, kind)
