"""`./scripts/demo`: a federation of four hospitals on this machine, whose server sees sums alone; three are killed."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from scripts.demos.deaths import Deaths
from scripts.demos.explaining import HELD_OUT, salt_of, write_report
from scripts.demos.glimpse import Glimpse, draw_glimpse
from scripts.demos.house import CommandFailed, House, free_port
from scripts.demos.picture import draw, write_page
from scripts.demos.plans import PLANS, Level
from scripts.demos.private import DELTA, Account, accounts, budget_of, exact_way, private_plan, rounds_of, what_it_does
from scripts.demos.serving import Counter, command, curl, promote, publish_both, serving, swap_under_load
from scripts.demos.ways import Way, alone, held_out_rows, pooled, read_shards, together, weighted

PARTNERS = ("cleveland", "hungarian", "long-beach", "switzerland")
MARKER = ".aimass-demo"
EARLIER = "earlier.safetensors"
SPLIT = 11
"""Names the held-out rows. Switzerland's eight negatives make single splits differ widely: README gives twelve."""


def say(text: str) -> None:
    """A line for the person who watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def prepare(folder: Path) -> None:
    """An empty folder of our own; another's is not touched."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise SystemExit(f"{folder} is not empty and not the demo's: choose another with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def build(house: House, cache: Path, *, secure: bool, privacy: Level | None) -> None:
    """Root, server, four partners with their own rows and policies."""
    from aimass.client.data_get import get
    from aimass.proto.task import locate

    say("1/9  data: heart disease, four hospitals (UCI, CC BY 4.0)")
    data, _ = get("heart", cache)
    say("2/9  root, server, operator; tokens, requests, one signature by the root for all")
    house.found(PARTNERS)
    say("3/9  four daemons, each beside its own rows, each with its own policy")
    digest = locate("heart").digest
    for partner in PARTNERS:
        rows = house.folder / partner / "rows.parquet"
        shutil.copyfile(data / f"{partner}.parquet", rows)
        house.permit(partner, "heart", digest, ["auc"], secure=secure)
        salt = salt_of(SPLIT, partner)
        house.run(
            "client",
            "data",
            "add",
            "heart",
            "--dir",
            partner,
            "--schema",
            "heart/1",
            "--uri",
            str(rows),
            "--format",
            "parquet",
            "--salt",
            salt,
            "--held-out",
            str(HELD_OUT),
        )
        if privacy is not None:
            policy = house.folder / partner / "policy.toml"
            policy.write_text(policy.read_text() + budget_of(privacy))
        house.start_partner(partner)


def plan_text(args: argparse.Namespace) -> str:
    """The plan as it is submitted."""
    if args.privacy == "none":
        text = PLANS["none"].format(rounds=args.rounds, seed=args.seed)
    else:
        from aimass.client.tasks.heart import task
        from aimass.proto.task import first_model
        from aimass.proto.tensors import Blob

        text = private_plan(args.privacy, Blob(first_model(task, args.seed)), args.rounds, args.seed)
    return re.sub(r"(?s)\[secure\].*?\n\n", "", text) if args.plain else text


def train(house: House, plan: str, rounds: int, *, kills: bool, secure: bool, private: bool):  # type: ignore[no-untyped-def]
    """The federated run; returns its last view, who was killed, and a glimpse of a masked input."""
    from aimass.proto.api import Federation
    from aimass.proto.run_cli import describe

    (house.folder / "plan.toml").write_text(plan)
    say(f"4/9  federated: {rounds} rounds, {'summed in secret' if secure else 'in plain sums'}")
    shown = -1
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "plan.toml")
        deaths = Deaths(house, rounds if kills else 0, say, PARTNERS[:2], secure=secure)
        for view in run.watch():
            if view.summary.round != shown:
                shown = view.summary.round
                say(f"       {describe(view)}")
            deaths.at(view)
        deaths.over()
        if run.view.summary.state != "finished":
            raise CommandFailed(f"the run {run.view.summary.state}: {run.view.summary.reason}")
        federation.export(run.view.summary.model, house.folder / "model.safetensors")
        for step in run.view.steps if private else ():
            if step.kind == "train":
                federation.export(step.model, house.folder / "rounds" / f"{step.round}.safetensors")
        trained = [step.model for step in run.view.steps if step.kind == "train"]
        federation.export(trained[max(-2, -len(trained))], house.folder / EARLIER)
        return run.view, deaths


def federated_way(view, rows: dict[str, int]) -> Way:  # type: ignore[no-untyped-def]
    """The federated run's figures, from what the partners' policies released."""
    by_round = [dict(step.metrics["auc"].by_partner) for step in view.steps if "auc" in step.metrics]
    return Way(weighted(by_round[-1], rows), by_round[-1], tuple(weighted(auc, rows) for auc in by_round))


def compare(house: House, view, *, private: bool) -> dict[str, Way]:  # type: ignore[no-untyped-def]
    """The three ways on the same held-out rows; of a private run the three without noise, and it beside them."""
    from aimass.client.tasks.heart import task
    from aimass.proto.plan import read_plan_draft
    from aimass.proto.storage import FileBlobs

    say("6/9  the same code and rounds: each hospital alone, and all rows pooled")
    shards = read_shards(house.folder, PARTNERS, task, budgeted=private)
    blobs = FileBlobs(house.folder / "compare")
    plan = view.plan
    if private:
        draft = read_plan_draft(PLANS["none"].format(rounds=view.summary.rounds, seed=plan.seed))
        plan = draft.complete(plan.task.digest, plan.model)
    ways = {
        "alone": alone(plan, task, shards, blobs),
        "federated": together(plan, task, shards, blobs) if private else federated_way(view, held_out_rows(shards)),
        "pooled": pooled(plan, task, shards, blobs),
    }
    if private:
        ways["private"] = exact_way(task, shards, rounds_of(house.folder / "rounds"), plan)
    shutil.rmtree(house.folder / "compare")
    return ways


def price(before: tuple[Account, ...], after: tuple[Account, ...], view, model: Path) -> None:  # type: ignore[no-untyped-def]
    """What each hospital's ledger says before and after, and the AUC that the server was told."""
    from aimass.proto.storage import map_file
    from aimass.proto.tensors import Blob

    say(f"\n       epsilon at delta {DELTA:g}{'budget':>15}{'before':>12}{'after':>12}{'left':>12}")
    for old, new in zip(before, after, strict=True):
        say(f"       {new.partner:<20}{new.epsilon:>15.2f}{old.spent:>12.3f}{new.spent:>12.3f}{new.left:>12.3f}")
    say(f"       {what_it_does(view.plan, Blob(map_file(model)))}")
    for step in view.steps:
        if "auc" in step.metrics:
            say(f"       round {step.round}: the server was told an AUC of {step.metrics['auc'].mean:.3f}, with noise")


def table(ways: dict[str, Way]) -> None:
    """AUC by hospital."""
    say("\n       AUC on held-out rows" + "".join(f"{name:>12}" for name in ways))
    for partner in PARTNERS:
        cells = [f"{way.by_partner[partner]:.3f}" if partner in way.by_partner else "-" for way in ways.values()]
        say(f"       {partner:<20}" + "".join(f"{cell:>12}" for cell in cells))
    say(f"       {'weighted by rows':<20}" + "".join(f"{way.weighted:>12.3f}" for way in ways.values()))


def masked(glimpse: Glimpse) -> None:
    """What the server held of one update: the first lanes beside each other."""
    say(f"\n       {glimpse.partner}, step {glimpse.step}: what it had, and what the server held of it")
    for number, (own, held) in enumerate(glimpse.entries()):
        say(f"         lane {number}{own:>12}{held:>12}")


def explain(house: House, *, private: bool) -> None:
    """The report of the last round's model, over the rows that no hospital trained on."""
    from aimass.client.tasks.heart import task

    say("\n8/9  report: what the model uses and where it is wrong, over the rows that no hospital trained on")
    path = write_report(house, PARTNERS, task.schema, SPLIT, "heart@2", independent=private)
    say(f"       {path}, {path.stat().st_size / 1e3:,.0f} kB, which opens in any browser without the network")


def serve(house: House, *, stay: bool) -> Counter:
    """Serve the earlier model, have the last one take over while it answers, and say how to ask."""
    port = free_port()
    say("\n9/9  serving: the earlier model answers, and the last one takes over under load")
    with serving(house, port):
        counter = swap_under_load(port, lambda: promote(house, 2, "the last round's model"))
        answered = ", ".join(f"{count} by version {number}" for number, count in sorted(counter.by_version.items()))
        say(f"       answered: {answered}; failed: {counter.failed}")
        say(f"       $ {shlex.join(curl(port))}")
        say("       " + subprocess.run(curl(port), capture_output=True, text=True, check=True).stdout.strip())
        if stay:
            say(f"       it answers until Ctrl-C; http://127.0.0.1:{port}/docs says more")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    say(f"\n       the same server again, in {house.folder}:\n         {command(house, port)}")
    return counter


def arguments() -> argparse.Namespace:
    """What can be chosen."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="example: ./scripts/demo --json demo.json")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for everything (./demo-output)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--no-kills", action="store_true", help="the undisturbed run: same digest")
    parser.add_argument(
        "--privacy", choices=("none", "example", "partner"), default="none",
        help="noise that hides each row (DP-SGD at the hospital), or each hospital (inside the sum), and its price",
    )  # fmt: skip
    parser.add_argument("--plain", action="store_true", help="plain sums: the server sees each hospital's update")
    parser.add_argument("--serve", action="store_true", help="go on serving in the end, until Ctrl-C")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if args.plain and args.privacy == "partner":
        parser.error("a partner's noise is made inside a secure sum: leave out --plain")
    return args


def main() -> int:
    """Run the demo; leaves a folder, and no process."""
    args = arguments()
    private: Level | None = None if args.privacy == "none" else args.privacy
    started = time.monotonic()
    folder = args.out.resolve()
    prepare(folder)
    try:
        with House(folder, keep_all=private is not None) as house:
            build(house, folder / "cache", secure=not args.plain, privacy=private)
            before = accounts(house, PARTNERS) if private else ()
            kills, secure = not args.no_kills, not args.plain
            view, deaths = train(
                house, plan_text(args), args.rounds, kills=kills, secure=secure, private=private is not None
            )
            after = accounts(house, PARTNERS) if private else ()
            say("5/9  registry: two rounds' models published, signed by the scientist, the earlier one promoted")
            publish_both(house, folder / EARLIER)
        killed = deaths.killed
        ways = compare(house, view, private=private is not None)
    except KeyboardInterrupt:
        say("\nstopped; nothing is left running")
        return 130
    except CommandFailed as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    seconds = time.monotonic() - started
    say("7/9  picture")
    draw(ways, folder / "demo.png")
    glimpse = deaths.glimpse
    if glimpse is not None:
        draw_glimpse(glimpse, folder / "masked.png")
    facts = {
        "model": view.summary.model,
        "rounds": str(view.summary.rounds),
        "killed with -9": ", ".join(killed) or "nobody",
    }
    masks = folder / "masked.png" if glimpse is not None else None
    write_page(ways, folder / "demo.png", folder / "demo.html", facts, masks)
    table(ways)
    if private:
        price(before, after, view, folder / "model.safetensors")
    if glimpse is not None:
        masked(glimpse)
    say(f"\n       model {view.summary.model}\n       {seconds:.0f} s, killed: {', '.join(killed) or 'nobody'}")
    say(f"       picture {folder / 'demo.png'}, page {folder / 'demo.html'}, model {folder / 'model.safetensors'}")
    with House(folder) as house:
        explain(house, private=private is not None)
        served = serve(house, stay=args.serve)
    say("\n       next, in that folder:\n         aimass server start --dir server &   aimass run list --as scientist")
    say("         aimass explain app                      # this run and its model in a browser: begin with the tour")
    say("         aimass client journal --dir cleveland   # every byte that left Cleveland")
    say("         aimass task new mytask")
    if args.json:
        write_json(args.json, ways, view, seconds, killed, after, served)
    return 0


def write_json(  # type: ignore[no-untyped-def]
    path: Path,
    ways: dict[str, Way],
    view,
    seconds: float,
    killed: list[str],
    ledgers: tuple[Account, ...],
    served: Counter,
) -> None:
    """The figures for programs."""
    auc = {name: {"weighted": way.weighted, "by_partner": way.by_partner} for name, way in ways.items()}
    figures = {
        "auc": auc,
        "rounds": view.summary.rounds,
        "model_digest": view.summary.model,
        "seconds": seconds,
        "killed": killed,
        "epsilon": {account.partner: {"spent": account.spent, "delta": DELTA} for account in ledgers},
        "served": {"by_version": served.by_version, "failed": served.failed},
    }
    path.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    sys.exit(main())
