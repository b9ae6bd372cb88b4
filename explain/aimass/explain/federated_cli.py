"""`aimass explain federated ANALYSIS MODEL`: a question to a federation, answered from sums, in files."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, lines, say
from aimass.proto.registry.places import add_registry

if TYPE_CHECKING:
    from aimass.explain.federated.seam import FederatedView
    from aimass.explain.opening import Subject
    from aimass.explain.rows import Rows
    from aimass.proto.api import Federation, Run
    from aimass.proto.asks import Shared
    from aimass.proto.manifest import Schema

__all__ = ["add_verbs"]

_BACKGROUND: Final = "what predictions are held against: `synthetic`, or a file of rows that are public (nobody's)"


def add_verbs(commands: Any) -> None:
    """Add the verb, with an analysis of its own for each that is installed."""
    from aimass.explain.federation import Terms, federated_views
    from aimass.explain.option_arguments import add_options
    from aimass.explain.writing import FORMATS

    verb = commands.add_parser("federated", help="the same of rows that stay at the partners of a federation")
    inner = verb.add_subparsers(required=True, metavar="ANALYSIS")
    for name, view in sorted(federated_views().items()):
        one = inner.add_parser(name, help=view.asks, description=f"{name}: {view.asks}.")
        one.add_argument(
            "model", metavar="MODEL", help="a run or `last`; FILE.safetensors; or NAME@ALIAS of a registry"
        )
        one.add_argument("--as", dest="home", type=Path, required=True, metavar="FOLDER", help="who asks: your folder")
        one.add_argument("--task", default="", help="of a file")
        one.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write into")
        one.add_argument("--formats", default=",".join(FORMATS), help=f"which of {','.join(FORMATS)} (all)")
        one.add_argument("--background", default="", metavar="FILE", help=_BACKGROUND)
        one.add_argument("--says", default="", metavar="TEXT", help="where the rows of --background are published")
        one.add_argument("--seed", type=int, default=0, help="another seed draws otherwise (0)")
        one.add_argument("--run", default="", metavar="RUN", help="read what an earlier run came to, and ask nobody")
        add_registry(one)
        add_options(one, view.options)
        add_options(one, Terms, "how the federation is asked")
        common(one, functools.partial(_ask, name, view))


def _ask(name: str, view: FederatedView, args: argparse.Namespace) -> int:
    from aimass.explain.federation import found_in
    from aimass.explain.writing import write_result
    from aimass.proto.api import Federation

    subject, schema = _subject(args)
    with Federation.open(args.home) as federation:
        if args.run:
            run = federation.run(args.run)
        else:
            run = _submitted(federation, name, view, subject, args)
            say(args, f"run {run.id[:8]}: who has not approved `{name}` yet sees it in `aimass client pending`")
        result = found_in(run.wait(), subject.images or subject.build(_no_rows(schema)))
    written = write_result(args.out, f"federated-{name}", result, args.formats.split(","))
    told = {"of": result.lineage.line(), "says": list(result.describe()), "but": list(result.warnings())}
    if args.json:
        emit(args, told | {"run": run.id, "written": [str(path) for path in written]})
        return 0
    but = (f"But: {line}" for line in result.warnings())
    lines([result.lineage.line(), *result.describe(), *but, f"{len(written)} files in {args.out}"])
    return 0


def _no_rows(schema: Schema) -> Rows:
    """The columns alone: whose rows they are nobody here knows."""
    import numpy as np

    from aimass.explain.rows import Rows, features_of

    return Rows(features_of(schema), np.empty((0, len(schema.columns))))


def _subject(args: argparse.Namespace) -> tuple[Subject, Schema]:
    """The model, with parameters at hand; one of a registry or a file where these are named, else of a run."""
    from aimass.explain.opening import Where, open_subject
    from aimass.proto.errors import BadInput

    elsewhere = bool(args.registry) or args.model.endswith(".safetensors")
    where = Where(
        registry=args.registry or "",
        trust="" if args.trust is None else str(args.trust),
        home=None if elsewhere else args.home,
        task=args.task,
    )
    subject = open_subject(args.model, where)
    if subject.parameters is None or subject.schema is None:
        raise BadInput(
            "a federation is asked about a task's model, whose parameters go with the question",
            code="explain.parameters",
            value=args.model,
            cure="Name a run, a version of a registry, or a safetensors file with --task.",
        )
    return subject, subject.schema


def _submitted(
    federation: Federation, name: str, view: FederatedView, subject: Subject, args: argparse.Namespace
) -> Run:
    from aimass.explain.federation import Terms, plan_of
    from aimass.explain.option_arguments import options_of
    from aimass.proto.storage import map_file

    terms = options_of(args, Terms)
    assert subject.parameters is not None  # noqa: S101  (said by `_subject`)
    assert subject.schema is not None  # noqa: S101
    assert isinstance(terms, Terms)  # noqa: S101
    model = bytes(map_file(subject.parameters))
    shared = _background(args, subject.schema)
    options = options_of(args, view.options)
    plan = plan_of(name, subject.task, subject.schema, model, options, terms, shared=shared, seed=args.seed)
    return federation.submit(plan, model=model)


def _background(args: argparse.Namespace, schema: Schema) -> Shared | None:
    """What is shared: nothing unless it is asked for."""
    from aimass.explain.federated.background import public_background, synthetic_background
    from aimass.explain.opening import open_rows
    from aimass.proto.errors import BadInput

    if not args.background:
        return None
    if args.background == "synthetic":
        return synthetic_background(schema, seed=args.seed)
    if not args.says:
        raise BadInput(
            "rows that partners shall compute with must be public, and their source named",
            code="explain.background",
            value=args.background,
            cure="Say with --says where they are published, or give --background synthetic.",
        )
    return public_background(open_rows([args.background], schema), args.says)
