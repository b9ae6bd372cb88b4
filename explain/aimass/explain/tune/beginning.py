"""How a search begins: plan and space are held against each other, and a person agrees to what it may cost."""

from __future__ import annotations

import argparse
import secrets
import time
from pathlib import Path
from typing import Final, Literal

from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.price import check_affordable, costliest, most_spent, told_price
from aimass.explain.tune.pruning import Pruning
from aimass.explain.tune.space import Space, check_space, read_space
from aimass.explain.tune.trials import Setup, Where
from aimass.proto.console import ask, say
from aimass.proto.errors import BadInput, Refused
from aimass.proto.home import load_home
from aimass.proto.plan import PlanDraft, read_plan_draft
from aimass.proto.studies import Study

__all__ = ["begun", "setup_of"]

_MOST_SEED = (1 << 63) - 1
_PAYS: Final = {
    "federated": "Each partner reserves that much of its budget before the first run.",
    "offline": "No ledger debits the rows of an offline run: what is published of it has spent that much.",
}
"""Who pays, by where its runs compute; the shards of a simulation are of who simulates."""


def begun(args: argparse.Namespace) -> SearchFolder:
    """The folder of a new search, written once all is checked and agreed to.

    Raises `BadInput` for what does not go together, `LimitExceeded` for what may spend too much, `Refused` where nobody
    agrees, and `Conflict` where something stands in the folder.
    """
    draft = read_plan_draft(args.plan.read_text("utf-8"), str(args.plan))
    space = read_space(args.space.read_text("utf-8"), str(args.space))
    setup = setup_of(args, draft, space)
    _agree(args, setup)
    folder = SearchFolder(args.out or Path(f"tuned-{draft.name}"))
    folder.begin(setup)
    return folder


def setup_of(args: argparse.Namespace, draft: PlanDraft, space: Space) -> Setup:
    """What the arguments ask for; raises `BadInput` where it cannot be."""
    check_space(space, draft)
    where = _where(args)
    _check_goals(args, space, where)
    if draft.seed > _MOST_SEED - args.seeds:
        raise BadInput("seeds count up from the plan's", code="tune.seed", value=draft.seed, limit=_MOST_SEED)
    dearest, runs, id_ = costliest(space, draft), args.trials * args.seeds, secrets.token_hex(16)
    reserved = bool(dearest) or _noised(draft)
    rule: Literal["none", "median", "halving"] = args.prune or ("none" if space.also else "median")
    return Setup(
        id=id_,
        draft=draft,
        space=space,
        trials=args.trials,
        seeds=tuple(draft.seed + place for place in range(args.seeds)),
        where=where,
        seed=args.seed,
        method=args.method,
        pruning=Pruning(rule=rule, after=args.prune_after),
        study=Study(id=id_, trials=runs, costliest=dearest) if reserved and where.kind == "federated" else None,
        most=most_spent(draft, dearest, runs),
        begun_at=time.time(),
    )


def _noised(draft: PlanDraft) -> bool:
    return draft.privacy is not None or (draft.secure is not None and draft.secure.noise is not None)


def _where(args: argparse.Namespace) -> Where:
    if args.shards is not None:
        idle = [name for name in ("offline", "schedule") if getattr(args, name) is not None]
        if idle:
            raise BadInput("with --shards this says nothing", code="tune.where", value=f"--{idle[0]}")
        given = {name: getattr(args, name) for name in ("workers", "policy", "pace")}
        paths = {
            name: one.resolve() if isinstance(one, Path) else one for name, one in given.items() if one is not None
        }
        options = tuple(part for name, one in paths.items() for part in (f"--{name}", str(one)))
        _check_folder(args.shards)
        return Where(kind="simulation", shards=str(args.shards.resolve()), options=options)
    if args.home is None:
        raise BadInput(
            "where shall its runs compute?",
            code="tune.where",
            cure="Give --as FOLDER (with --offline DATASET for a data set of the service), or --shards DIR.",
        )
    idle = [name for name in ("workers", "policy", "pace") if getattr(args, name) is not None]
    if idle or (args.schedule and not args.offline):
        value = f"--{idle[0]}" if idle else "--schedule"
        raise BadInput("this says nothing here", code="tune.where", value=value, cure=f"Leave {value} out.")
    load_home(Path(args.home))  # raises for what is no such folder
    home = str(Path(args.home).resolve())
    if args.offline:
        return Where(kind="offline", home=home, data_set=args.offline, schedule=args.schedule or "averaging")
    return Where(kind="federated", home=home)


def _check_folder(shards: Path) -> None:
    if not shards.is_dir():
        raise BadInput(
            "there is no folder of shards here",
            code="tune.shards",
            value=shards,
            cure="Make one: aimass data partition --help.",
        )


def _check_goals(args: argparse.Namespace, space: Space, where: Where) -> None:
    if "bytes" in space.also and where.kind != "federated":
        raise BadInput(
            "no byte crosses a wire here, so that runs do not differ in bytes", code="tune.goal", value=where.kind
        )
    if space.also and args.prune not in (None, "none"):
        raise BadInput(
            "runs are cut by their metric alone: one that is worse in it may cost least",
            code="tune.prune",
            value=f"--prune {args.prune}, also {', '.join(space.also)}",
            cure="Leave --prune out, or `also`.",
        )


def _agree(args: argparse.Namespace, setup: Setup) -> None:
    """Say what it may cost; where the plan is private and real rows pay, somebody has to agree."""
    say(args, told_price(setup.most, setup.trials, len(setup.seeds)))
    check_affordable(setup.most, args.most_epsilon)
    private = setup.study is not None or setup.most.epsilon is not None or _noised(setup.draft)
    pays = _PAYS.get(setup.where.kind)
    if pays is None or not private:
        return
    if not (args.yes or ask(f"{pays} Begin?")):
        raise Refused(
            "nobody agreed to what the search may spend of the privacy of those whose data it is",
            code="tune.not_agreed",
            value=f"epsilon {setup.most.epsilon:.4g}" if setup.most.epsilon is not None else "no bound",
            cure="Answer yes at a terminal, or give --yes.",
        )
