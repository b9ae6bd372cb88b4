"""`aimass client`: the partner's commands; `enroll` serves operators, scientists and analysts too."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from aimass.client import (
    base_cli,
    budget_cli,
    ledger_cli,
    membership_cli,
    personal_cli,
    runs_cli,
    shards_cli,
    study_cli,
)
from aimass.proto.apps_cli import add_app_commands
from aimass.proto.console import Handler, common, group

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass client init north --name north --server fed.example.org:8443 --enrol fed.example.org:8444
  aimass client enroll --dir north --token north.token
  aimass client data add heart --dir north --schema heart/1 --uri /data/heart.parquet --format parquet
  aimass client start --dir north
  aimass client pending --dir north
  aimass client model export last mine.safetensors --dir north
  aimass client base add encoder.safetensors --dir north
  aimass client app install ./quickstart --dir north
  aimass client data add rows --dir north --schema quickstart/1 --format files --uri /data/rows
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass client`."""
    commands = group(parser, _EXAMPLE)
    init = commands.add_parser("init", help="make a folder with settings, and the policy that a partner edits")
    init.add_argument("dir", type=Path)
    init.add_argument("--name", required=True)
    init.add_argument("--server", required=True, help="HOST:PORT for work")
    init.add_argument("--enrol", required=True, help="HOST:PORT for enrolment")
    common(init, membership_cli.init)
    enroll = _command(
        commands, "enroll", "make keys, ask for membership, wait for the root holder", membership_cli.enroll
    )
    enroll.add_argument("--token", type=Path, help="file with the token that the root holder gave you")
    enroll.add_argument("--offline", action="store_true", help="write the request to a file instead of sending it")
    enroll.add_argument("--bundle", type=Path, help="install a bundle that came back as a file")
    _command(commands, "start", "run the daemon until SIGTERM or Ctrl-C", _start)
    _command(commands, "status", "the running daemon at a glance", runs_cli.status)
    _command(commands, "stop", "stop the running daemon", runs_cli.stop)
    _command(commands, "pending", "what waits for a person here", runs_cli.pending)
    app = commands.add_parser("app", help="Flower apps that may be approved here").add_subparsers(required=True)
    add_app_commands(partial(_command, app), "read its code, then: aimass client approve {name} --dir {dir}")
    _decisions(commands)
    show = _command(commands, "show", "one run as this partner saw it: plan, steps, history, releases", runs_cli.show)
    show.add_argument("run", help="its id, the first digits of it, or `last`")
    withdraw = _command(commands, "withdraw", "leave a run, or with --all the federation", runs_cli.withdraw)
    withdraw.add_argument("run", nargs="?", help="its id, the first digits of it, or `last`")
    withdraw.add_argument("--all", action="store_true", help="every run, and take part in no other until `return`")
    _command(commands, "return", "take part again after `withdraw --all`", runs_cli.come_back)
    _command(commands, "journal", "every release, its chain verified", runs_cli.journal)
    model = commands.add_parser("model", help="personal models, which never left").add_subparsers(required=True)
    _command(model, "list", "what is kept here, with its measures before and after", personal_cli.model_list)
    export = _command(model, "export", "write one as a safetensors file", personal_cli.model_export)
    export.add_argument("run", help="its run's id, the first digits of it, or `last`")
    export.add_argument("path", type=Path, help="file to write")
    remove = _command(model, "remove", "delete one, which no run makes again", personal_cli.model_remove)
    remove.add_argument("run", help="its run's id, the first digits of it, or `last`")
    base_cli.add_arguments(commands)
    _budget(commands)
    policy = commands.add_parser("policy", help="show the policy, or check a plan against it").add_subparsers(
        required=True
    )
    _command(policy, "show", "the policy in force", runs_cli.policy_show)
    check = _command(policy, "check", "each rule with the plan's value and the limit", runs_cli.policy_check)
    check.add_argument("plan", type=Path, nargs="?", help="a TOML file; not needed with --flower")
    check.add_argument(
        "--flower", type=Path, metavar="APP", help="the folder of a Flower app that the plan would be of"
    )
    roster = commands.add_parser("roster", help="who is in the federation").add_subparsers(required=True)
    _command(roster, "show", "members in force, and a roster that waits", membership_cli.roster_show)
    accept = _command(roster, "approve", "accept the roster, or the root, that waits", membership_cli.roster_approve)
    accept.add_argument("--yes", action="store_true", help="do not ask about another root")
    _data(commands)


def _decisions(commands: Any) -> None:
    """What a person here looks at, and approves."""
    text = "the numbers that an explanation would take of the rows here; of a study the budget that it reserves"
    shown = _command(commands, "preview", text, runs_cli.preview)
    shown.add_argument("run", help="the run's id, the first digits of it, or `last`")
    text = "approve a task, an analysis, an installed Flower app, or a study"
    approve = _command(commands, "approve", text, runs_cli.approve)
    approve.add_argument("task", nargs="?", help="its name, as `pending` shows it")
    approve.add_argument(
        "--study", metavar="RUN", help="what the study of this run reserves, as `preview RUN` shows it"
    )
    approve.add_argument("--digest", help="the digest that you checked (default: the one that is installed)")


def _data(commands: Any) -> None:
    data = commands.add_parser("data", help="data sets of this partner").add_subparsers(required=True)
    add = _command(data, "add", "declare a data set and map its schema to it", shards_cli.data_add)
    add.add_argument("name")
    add.add_argument("--schema", required=True, help="the schema that plans name, such as heart/1")
    uri = "file (repeat for several); with --format files also a folder that a Flower app may read, or none"
    add.add_argument("--uri", action="append", default=[], help=uri)
    add.add_argument("--format", choices=["csv", "parquet", "files"], required=True, help="files: for Flower apps")
    node = "of --format files: what an app is told of this partner, such as 'partition-id=0 num-partitions=4'"
    add.add_argument("--node-config", action="append", default=[], metavar="VALUES", help=node)
    add.add_argument("--participant", help="key in runs (default: this partner's name)")
    salt = "hexadecimal; fixes the held-out rows, and hides the noise of Flower apps while secret (default: random)"
    add.add_argument("--salt", help=salt)
    add.add_argument("--held-out", type=float, default=0.2, help="share of the rows that are never trained on (0.2)")
    add.add_argument("--person", metavar="COLUMN", help="column that says whose each row is (default: not known)")
    another = "a data set with a ledger that has rows in common and holds other data all the same (repeat for several)"
    add.add_argument("--another", action="append", default=[], metavar="DATA_SET", help=another)
    checking = _command(data, "check", "read a data set against its task's schema", shards_cli.data_check)
    checking.add_argument("name")
    checking.add_argument("--task", required=True)


def _budget(commands: Any) -> None:
    """`budget` alone shows all; its commands take what all have in common before or after their names."""
    budget = _command(commands, "budget", "privacy budgets: spent, left, and a plan's price", budget_cli.budget)
    budget.set_defaults(data_set="", rows=1_000_000)
    inner = budget.add_subparsers(metavar="COMMAND")
    show = _command(inner, "show", "the same of one data set", budget_cli.budget, inner=True)
    show.add_argument("data_set", nargs="?", help="its name (default: all that have a budget)")
    for shown in (budget, show):
        shown.add_argument("--plan", type=Path, help="what one more round of this plan costs, and how many fit")
        shown.add_argument("--rows", type=int, help="training rows, or persons, for plans that cut batches (1000000)")
        shown.add_argument("--over-time", action="store_true", help="a chart of what was spent, in the terminal")
        shown.add_argument("--picture", type=Path, metavar="FILE.svg", help="the same as a drawing, in colour by run")
    text = "go on with an older copy of a ledger, and say what was lost"
    accept = _command(inner, "accept", text, ledger_cli.accept, inner=True)
    accept.add_argument("data_set")
    said = accept.add_mutually_exclusive_group(required=True)
    said.add_argument("--nothing-lost", action="store_true", help="the newer copy had spent nothing beyond this one")
    lost = "what it had spent beyond it: a JSON list of events"
    said.add_argument("--lost", type=Path, metavar="FILE", default=None, help=lost)
    counted = "what an export of it counts beyond this one"
    said.add_argument("--from-export", type=Path, metavar="FILE", default=None, help=counted)
    text = "end a study here: what was reserved for it and no run has spent is free"
    end = _command(inner, "end-study", text, study_cli.end, inner=True)
    end.add_argument("study", help="its id, or the first digits of it, as `budget` shows it")
    text = "say that a data set is no other one, whose rows it has in part"
    another = _command(inner, "another", text, ledger_cli.another, inner=True)
    another.add_argument("data_set")
    another.add_argument("other")
    text = "write a ledger as one document, signed by this partner"
    export = _command(inner, "export", text, ledger_cli.export, inner=True)
    export.add_argument("data_set")
    export.add_argument("file", type=Path)
    text = "check an exported ledger: its chain, its signature"
    verify = _command(inner, "verify", text, ledger_cli.verify, inner=True)
    verify.set_defaults(handler=ledger_cli.verify)  # an auditor has the partner's key, and no folder of a partner
    verify.add_argument("file", type=Path)
    verify.add_argument("--key", default="", help="the partner's identity key, hexadecimal (default: the one here)")


def _command(commands: Any, name: str, text: str, handler: Handler, *, inner: bool = False) -> argparse.ArgumentParser:
    """A command; an `inner` one is of a command that has the same options, and leaves them as they are."""
    absent = argparse.SUPPRESS if inner else None
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, argument_default=absent)
    folder = absent or Path("client")
    parser.add_argument("--dir", type=Path, default=folder, help="the partner's folder (./client)")
    common(parser, _at_home(handler))
    return parser


def _at_home(handler: Handler) -> Handler:
    """A folder that is none is told as that, whatever a command would have missed in it first."""

    def run(args: argparse.Namespace) -> int:
        from aimass.proto.home import load_home

        load_home(args.dir)
        return handler(args)

    return run


def _start(args: argparse.Namespace) -> int:
    from aimass.client.daemon import Daemon
    from aimass.privacy.pki import Role, peer_of
    from aimass.proto.allocator import one_arena
    from aimass.proto.confinement import forbid_core_files
    from aimass.proto.durable import only_one
    from aimass.proto.errors import Refused
    from aimass.proto.home import load_home, tls_identity
    from aimass.proto.logs import configure_logs

    one_arena()
    configure_logs(load_home(args.dir).log, quiet=args.quiet)
    forbid_core_files()
    told = False

    def ready() -> None:
        nonlocal told
        if not told:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            told = True

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Daemon(args.dir).serve(stop, ready)

    member = peer_of(tls_identity(args.dir).certificate_pem)
    if member.role is not Role.PARTNER:
        raise Refused("only a partner runs a daemon", code="client.role", value=member.role, limit=Role.PARTNER)
    with only_one(args.dir, "daemon"):
        asyncio.run(run())
    return 0
