"""`aimass model rules set | show`: what a version has to fulfil before it becomes champion."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, plain, say, table
from aimass.proto.registry.places import add_registry
from aimass.proto.run_cli import add_home

if TYPE_CHECKING:
    from aimass.proto.registry.reader import Resolved
    from aimass.server.registry.deciding import Decision
    from aimass.server.registry.opening import Opened

__all__ = ["add_verbs", "asked_rules", "tell"]

_RULES: Final = """What a version has to fulfil before it becomes champion, by hand or by a training server. A file:

  same_schema = true             # takes the same columns as the champion (the default)
  smoke = true                   # answers its smoke inputs as expected (the default)
  same_held_out = true           # was measured on the very rows that the champion was
  most_epsilon = 8.0             # a stated privacy within this, at most_delta, for one `unit`
  most_delta = 1e-5
  unit = "example"
  most_age_days = 30.0           # since it was published
  least_members = 5              # contributors in every round
  least_rows = 500               # held-out rows that the metrics below are of

  [[metrics]]
  name = "accuracy"
  better = "higher"
  by = 0.0                       # the 95 % interval of the difference lies above this; below 0: no worse than
  # compare = "mean"             # compare means alone, where a metric's interval is not known
  # bound = 0.8                  # and at least so much, the first version too
"""


def add_verbs(commands: Any) -> None:
    """Add `rules`."""
    rules = commands.add_parser(
        "rules",
        help="registry: what a version has to fulfil to be promoted",
        description=_RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = rules.add_subparsers(required=True, metavar="COMMAND")
    setting = verbs.add_parser(
        "set",
        help="sign these rules for a model, in place of those before",
        description=_RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    setting.add_argument("name", help="the model")
    setting.add_argument("file", type=Path, help="TOML, as above")
    add_home(setting)
    add_registry(setting)
    common(setting, _set)
    show = verbs.add_parser("show", help="the rules that hold, and who signed them")
    show.add_argument("name", help="the model")
    add_registry(show)
    common(show, _show)


def _set(args: argparse.Namespace) -> int:
    from aimass.proto.registry.rules import newest_rules, read_rules
    from aimass.server.registry.authors import read_author
    from aimass.server.registry.opening import opened
    from aimass.server.registry.rule_writing import set_rules

    rules = read_rules(args.file.read_text("utf-8"), str(args.file))
    registry, author = opened(args), read_author(args.home)
    said = set_rules(registry.store, registry.trust, author, args.name, rules, time.time())
    held = newest_rules(registry.store, registry.trust, args.name)
    emit(args, {"model": said.model, "rules": said.number, "signed_by": held.signer if held else said.by})
    return 0


def _show(args: argparse.Namespace) -> int:
    from aimass.proto.errors import NotFound
    from aimass.proto.registry.rules import newest_rules
    from aimass.server.registry.opening import opened

    registry = opened(args)
    held = newest_rules(registry.store, registry.trust, args.name)
    if held is None:
        raise NotFound(
            "nobody has set promotion rules for this model",
            code="registry.no_rules",
            value=args.name,
            cure=f"aimass model rules set {args.name} rules.toml; `aimass model rules --help` shows a file.",
        )
    emit(args, {"number": held.said.number, "signed_by": held.signer, "at": held.said.at, **plain(held.said.rules)})
    return 0


def asked_rules(args: argparse.Namespace, registry: Opened, to: Resolved) -> Decision:
    """What the rules say of a version; where they ask for it, its smoke inputs are tried in a child process."""
    from aimass.server.registry.deciding import no_rules
    from aimass.server.registry.moving import decision_on

    say(args, f"asking the rules about {to}")
    decision = decision_on(registry, to)
    if decision is None:
        raise no_rules(to.version.name)
    return decision


def tell(args: argparse.Namespace, decision: Decision) -> None:
    """Print each verdict, and what they come to."""
    judgement = decision.judgement
    if args.json:
        emit(args, {**plain(judgement), "rules": decision.rules, "passed": judgement.passed})
        return
    table([{"rule": one.rule, "holds": one.passed, "because": one.said} for one in judgement.verdicts])
    against = f" in place of {judgement.champion}" if judgement.champion else ""
    verb = "may be" if judgement.passed else "may not be"
    emit(args, f"{judgement.candidate} {verb} champion{against}, by {decision.rules}")
