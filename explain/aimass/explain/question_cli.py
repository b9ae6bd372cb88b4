"""`aimass explain lpi | gap | prim | segviz MODEL`: a question about a model and rows, answered in files."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, lines
from aimass.proto.registry.places import add_registry

if TYPE_CHECKING:
    from aimass.explain.images import Images
    from aimass.explain.opening import Subject, Where
    from aimass.explain.questions import Asking, Question
    from aimass.explain.results import Result
    from aimass.explain.rows import Rows
    from aimass.explain.texts import Texts
    from aimass.explain.work import Work

__all__ = ["add_subject", "add_verbs", "add_work", "answered", "opened", "told", "where_of", "work_of"]

_MODEL: Final = (
    "NAME, NAME@ALIAS or NAME@NUMBER of a registry; with --as a run; FILE.safetensors; http(s)://…/v2/models/NAME; "
    "or module:function"
)


def add_verbs(commands: Any) -> None:
    """Add a verb for each question whose package is here."""
    from aimass.explain.option_arguments import add_options
    from aimass.explain.questions import QUESTIONS
    from aimass.explain.writing import FORMATS

    for one in QUESTIONS:
        if not one.here:
            continue
        verb = commands.add_parser(one.name, help=one.asks, description=f"{one.title}: {one.asks}.")
        add_subject(verb)
        verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write into")
        verb.add_argument("--formats", default=",".join(FORMATS), help=f"which of {','.join(FORMATS)} (all)")
        if one.takes_background:
            verb.add_argument(
                "--background", action="append", default=[], metavar="[NAME=]FILE", help="what rows are compared with"
            )
        add_options(verb, one.options)
        add_work(verb)
        common(verb, functools.partial(_explain, one))


def add_subject(parser: argparse.ArgumentParser) -> None:
    """The options that say which model and which rows are meant."""
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--rows",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="CSV or Parquet file, folder, or set of `aimass data list`; repeated, each under its name; of images and "
        "texts also a folder of shards: what they hold out",
    )
    known = rows.add_mutually_exclusive_group()
    known.add_argument("--held-out", dest="held_out", action="store_const", const=True, help="not trained on")
    known.add_argument("--trained-on", dest="held_out", action="store_const", const=False, help="trained on")
    rows.add_argument("--label", default="", metavar="COLUMN", help="the outcome, where no task says it")
    rows.add_argument(
        "--label-is",
        default="",
        choices=("number", "classes"),
        help="what the outcome is, where few whole numbers could be either (classes)",
    )
    rows.add_argument("--also", action="append", default=[], metavar="COLUMN", help="a column beside: no model sees it")
    model = parser.add_argument_group("where the model is")
    model.add_argument("--task", default="", help="of a file, or of a function")
    model.add_argument("--as", dest="home", type=Path, metavar="FOLDER", help="your folder: MODEL is a run, or `last`")
    model.add_argument("--token", type=Path, metavar="FILE", help="holds the token for a served model")
    model.add_argument("--ca", type=Path, metavar="FILE", help="authority of a served model's certificate")
    add_registry(model)  # type: ignore[arg-type]


def add_work(parser: argparse.ArgumentParser) -> None:
    """The options that say how it is computed."""
    work = parser.add_argument_group("how")
    work.add_argument("--seed", type=int, default=0, help="another seed draws otherwise (0)")
    work.add_argument("--workers", type=int, default=1, help="threads (1)")
    work.add_argument("--memory", type=int, default=256, metavar="MIB", help="for arrays underway (256)")
    work.add_argument("--time-limit", type=float, metavar="SECONDS", help="give up after so long")
    work.add_argument("--fresh", action="store_true", help="compute again what was found before")


def where_of(args: argparse.Namespace) -> Where:
    """Where the model is, of the options of `add_subject`."""
    from aimass.explain.opening import Where

    return Where(
        registry=args.registry or "",
        trust="" if args.trust is None else str(args.trust),
        home=args.home,
        task=args.task,
        token=args.token,
        authority=args.ca,
    )


def opened(args: argparse.Namespace) -> tuple[Subject, Rows | Images | Texts]:
    """The model and the rows, images or texts that the arguments name."""
    from aimass.explain.opening import open_images, open_rows, open_subject, open_texts

    subject = open_subject(args.model, where_of(args))
    if subject.images is not None:
        return subject, open_images(args.rows, subject.schema, held_out=args.held_out)
    if subject.texts is not None:
        return subject, open_texts(args.rows, subject.schema, held_out=args.held_out)
    rows = open_rows(
        args.rows,
        subject.schema,
        held_out=args.held_out,
        beside=args.also,
        label=args.label,
        label_is=args.label_is,
    )
    return subject, rows


@contextlib.contextmanager
def work_of(args: argparse.Namespace) -> Iterator[Work]:
    """How it is computed, with its progress on standard error."""
    from aimass.explain.progress import Progress
    from aimass.explain.work import Work

    with Progress(args) as tell:
        work = Work(args.seed, args.memory << 20, args.workers, tell)
        yield work if args.time_limit is None else work.within(args.time_limit)


def answered(args: argparse.Namespace, asking: Asking, work: Work) -> Result:
    """The answer, found before or now."""
    from aimass.explain.cache import ResultCache

    return asking.answer(work) if args.fresh else ResultCache().answer(asking, work)


def _explain(one: Question, args: argparse.Namespace) -> int:
    from aimass.explain.opening import open_rows
    from aimass.explain.option_arguments import options_of
    from aimass.explain.questions import Asking
    from aimass.explain.writing import check_folder, check_formats, write_result

    formats = args.formats.split(",")
    check_formats(formats)  # before anything is computed
    check_folder(args.out)
    subject, rows = opened(args)
    named = getattr(args, "background", [])
    background = open_rows(named, subject.schema) if named else None
    asking = Asking(one, subject.model_for(one.of, rows), rows, options_of(args, one.options), background)
    with work_of(args) as work:
        result = answered(args, asking, work)
    return told(args, result, write_result(args.out, one.name, result, formats))


def told(args: argparse.Namespace, result: Result, written: Sequence[Path]) -> int:
    """Print what a result says: sentences, one a line, or JSON with `--json`."""
    said = {"of": result.lineage.line(), "says": result.describe(), "but": result.warnings()}
    if args.json:
        emit(args, said | {"written": [str(path) for path in written]})
        return 0
    but = (f"But: {line}" for line in result.warnings())
    lines([result.lineage.line(), *result.describe(), *but, f"{len(written)} files in {args.out}"])
    return 0
