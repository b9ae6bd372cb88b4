"""`aimass client`: the partner's commands; `enroll` serves operators, scientists and analysts too."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from aimass.proto.console import common, emit, group, say, write_output

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass client init north --name north --server fed.example.org:8443 --enrol fed.example.org:8444
  aimass client enroll --dir north --token north.token
  aimass client data add heart --dir north --schema heart/1 --uri /data/heart.parquet --format parquet
  aimass client start --dir north
  aimass client pending --dir north
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass client`."""
    commands = group(parser, _EXAMPLE)
    init = commands.add_parser("init", help="make a folder with settings and a policy to edit")
    init.add_argument("dir", type=Path)
    init.add_argument("--name", required=True)
    init.add_argument("--server", required=True, help="HOST:PORT for work")
    init.add_argument("--enrol", required=True, help="HOST:PORT for enrolment")
    common(init, _init)
    enroll = _command(commands, "enroll", "make keys, ask for membership, wait for the root holder", _enroll)
    enroll.add_argument("--token", type=Path, help="file with the token that the root holder gave you")
    enroll.add_argument("--offline", action="store_true", help="write the request to a file instead of sending it")
    enroll.add_argument("--bundle", type=Path, help="install a bundle that came back as a file")
    _command(commands, "start", "run the daemon until SIGTERM or Ctrl-C", _start)
    _command(commands, "status", "the running daemon at a glance", _status)
    _command(commands, "stop", "stop the running daemon", _stop)
    _command(commands, "pending", "what waits for a person here", _pending)
    approve = _command(commands, "approve", "approve a task that waits", _approve)
    approve.add_argument("task", help="its name, as `pending` shows it")
    approve.add_argument("--digest", help="the digest that you checked (default: the one that is installed)")
    _command(commands, "journal", "every release, its chain verified", _journal)
    policy = commands.add_parser("policy", help="show the policy, or check a plan against it").add_subparsers(
        required=True
    )
    _command(policy, "show", "the policy in force", _policy_show)
    check = _command(policy, "check", "each rule with the plan's value and the limit", _policy_check)
    check.add_argument("plan", type=Path)
    roster = commands.add_parser("roster", help="who is in the federation").add_subparsers(required=True)
    _command(roster, "show", "members in force, and a roster that waits", _roster_show)
    _command(roster, "approve", "accept the roster that waits", _roster_approve)
    data = commands.add_parser("data", help="data sets of this partner").add_subparsers(required=True)
    add = _command(data, "add", "declare a data set and map its schema to it", _data_add)
    add.add_argument("name")
    add.add_argument("--schema", required=True)
    add.add_argument("--uri", action="append", required=True, help="file (repeat for several)")
    add.add_argument("--format", choices=["csv", "parquet"], required=True)
    add.add_argument("--participant", help="key in runs (default: this partner's name)")
    add.add_argument("--salt", help="hexadecimal; fixes the held-out rows (default: random)")
    add.add_argument("--held-out", type=float, default=0.2)
    checking = _command(data, "check", "read a data set against its task's schema", _data_check)
    checking.add_argument("name")
    checking.add_argument("--task", required=True)


def _command(commands: Any, name: str, text: str, handler: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--dir", type=Path, default=Path("client"), help="the partner's folder (./client)")
    common(parser, handler)
    return parser


_POLICY = """# What this partner permits. An unknown key is an error. Check a plan: aimass client policy check PLAN

# The server sees each contribution of a plain sum. Set to true to allow that.
plain_sums = false
# Demand secure aggregation; a run without it is refused.
secure_aggregation = false
# Fewest partners in a run, and in a step's sum.
smallest_cohort = 2
# What the machine must enforce on the training child: "process" (no key, no environment), "files" (reads nothing of
# yours but the rows it is handed), "network" (reaches none), "calls" (no sockets, processes or signals).
confinement = ["process", "files", "network", "calls"]

[bounds]
rounds = 1000
epochs = 20
learning_rate = 1.0

[release]
metrics = ["loss", "accuracy", "auc"]   # leave as sums
figures = []                             # shown for this partner alone
analyses = ["statistics"]

# Schemas that plans may name, and the data set here that answers: `aimass client data add` writes them.
[schemas]
"""


def _init(args: argparse.Namespace) -> int:
    from aimass.privacy.roster import NAME
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import BadInput, Conflict
    from aimass.proto.wire import split_address

    if not NAME.fullmatch(args.name):
        raise BadInput("a name is lower-case letters, digits and dashes", code="client.name", value=args.name)
    split_address(args.server)
    split_address(args.enrol)
    if (args.dir / "client.toml").exists():
        raise Conflict("a client is here already", code="client.exists", value=args.dir)
    make_folder(args.dir)
    settings = (
        f'name = "{args.name}"\nserver = "{args.server}"   # work: mutual TLS\nenrol = "{args.enrol}"    # enrolment\n'
    )
    write_output(args.dir / "client.toml", settings.encode())
    write_output(args.dir / "policy.toml", _POLICY.encode())
    emit(
        args,
        {
            "folder": str(args.dir),
            "next": f"edit {args.dir}/policy.toml, then: aimass client enroll --dir {args.dir} --token FILE",
        },
    )
    return 0


def _enroll(args: argparse.Namespace) -> int:
    import time

    from aimass.privacy.enrolment import make_request, read_token, request_fingerprint
    from aimass.privacy.keys import create_keys, load_keys
    from aimass.privacy.trust_bundle import Root
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import BadInput
    from aimass.proto.home import ROOT, load_home
    from aimass.proto.values import canonical_json
    from aimass.proto.views import EnrolmentList, EnrolmentView

    home = load_home(args.dir)
    make_folder(args.dir / "trust")
    if args.bundle is not None:
        return _admitted(args, args.bundle.read_bytes())
    if args.token is None:
        raise BadInput("enrolment needs a token", code="enrol.no_token", cure="Ask the root holder; then --token FILE.")
    token = read_token(args.token.read_text("ascii"))
    if token.name != home.name:
        raise BadInput("the token is for another name", code="enrol.name", value=token.name, limit=home.name)
    held = args.dir / "keys" / "identity.key"
    keys = load_keys(args.dir / "keys") if held.exists() else create_keys(args.dir / "keys")
    write_output(args.dir / ROOT, token.root.encode())
    root = Root.from_pem(token.root.encode())
    request_file = args.dir / f"{home.name}.request"
    if request_file.exists():
        from aimass.proto.values import decode_json

        text = decode_json(EnrolmentList, request_file.read_bytes(), str(request_file)).requests[0].request
    else:
        request = make_request(token, keys)
        text = canonical_json(request).decode()
        view = EnrolmentView(
            name=home.name,
            role=token.role,
            fingerprint=request_fingerprint(request),
            received_at=time.time(),
            request=text,
        )
        write_output(request_file, canonical_json(EnrolmentList(requests=(view,))))
    if args.offline:
        emit(args, {"request": str(request_file), "root_fingerprint": root.fingerprint})
        return 0
    return _ask_server(args, home.enrol, root.certificate_pem, text)


def _ask_server(args: argparse.Namespace, address: str, root_pem: bytes, text: str) -> int:
    from aimass.proto.enrol_client import enrol

    def pending(fingerprint: str) -> None:
        say(args, f"request {fingerprint[:16]} waits for the root holder")

    return _admitted(args, asyncio.run(enrol(address, root_pem, text.encode(), pending)))


def _admitted(args: argparse.Namespace, data: bytes) -> int:
    """Install a bundle that holds our own certificate."""
    from aimass.privacy.keys import load_keys, spki
    from aimass.privacy.pki import peer_of
    from aimass.privacy.trust_bundle import Root, open_bundle
    from aimass.proto.errors import Unauthenticated
    from aimass.proto.home import BUNDLE, CERTIFICATE, ROOT, load_home

    home = load_home(args.dir)
    trust = open_bundle(data, Root.from_pem((args.dir / ROOT).read_bytes()))
    own = [pem for subject, pem in trust.certificates.items() if subject.endswith(f"/{home.name}")]
    import hashlib

    digest = hashlib.sha256(spki(load_keys(args.dir / "keys").tls)).digest()
    match = next((pem for pem in own if peer_of(pem).tls_sha256 == digest), None)
    if match is None:
        raise Unauthenticated(
            "the bundle holds no certificate for this key", code="enrol.no_certificate", value=home.name
        )
    write_output(args.dir / BUNDLE, data)
    write_output(args.dir / CERTIFICATE, match)
    emit(
        args,
        {
            "enrolled": home.name,
            "role": str(peer_of(match).role),
            "roster_epoch": trust.roster.epoch,
            "partners": list(trust.roster.partners),
        },
    )
    return 0


def _start(args: argparse.Namespace) -> int:
    from aimass.client.daemon import Daemon
    from aimass.proto.logs import configure_logs

    configure_logs(quiet=args.quiet)
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

    asyncio.run(run())
    return 0


def _local(args: argparse.Namespace, **request: str) -> dict[str, Any]:
    """Ask the running daemon over its local socket."""
    from aimass.proto.errors import InternalError, Unavailable, from_parts

    try:
        folder = os.open(args.dir, os.O_RDONLY | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(f"/proc/self/fd/{folder}/control.sock")
            token = (args.dir / "state" / "control.token").read_text("ascii")
            link.sendall(json.dumps(request | {"token": token}).encode() + b"\n")
            with link.makefile("rb") as answer:
                reply = json.loads(answer.readline())
    except (OSError, ValueError) as error:
        raise Unavailable(
            "the daemon is not running",
            code="client.not_running",
            value=args.dir,
            cure=f"aimass client start --dir {args.dir}",
        ) from error
    if not isinstance(reply, dict):
        raise InternalError("the daemon's answer cannot be read", code="client.answer")
    if "error" in reply:
        raise from_parts(reply["error"]["kind"], reply["error"]["what"], code=reply["error"]["code"])
    return reply


def _status(args: argparse.Namespace) -> int:
    emit(args, _local(args, command="status"))
    return 0


def _stop(args: argparse.Namespace) -> int:
    emit(args, _local(args, command="stop"))
    return 0


def _waiting(args: argparse.Namespace) -> list[dict[str, str]]:
    from aimass.client.run_folder import run_folders
    from aimass.client.session import Phase
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.plan import decode_plan

    waiting = []
    for folder in run_folders(args.dir / "state", UNINTERRUPTED):
        session = folder.load()
        if session is not None and session.phase is Phase.PENDING:
            plan = decode_plan(folder.plan())
            waiting.append(
                {
                    "run": session.run_id[:8],
                    "plan": plan.name,
                    "task": plan.task.name,
                    "digest": plan.task.digest,
                    "reason": session.reason,
                }
            )
    return waiting


def _pending(args: argparse.Namespace) -> int:
    from aimass.client.keeper import Keeper
    from aimass.proto.durable import UNINTERRUPTED

    roster = Keeper(args.dir, UNINTERRUPTED).pending
    emit(args, {"runs": _waiting(args), "roster": f"epoch {roster.roster.epoch}" if roster else "none"})
    return 0


def _approve(args: argparse.Namespace) -> int:
    from aimass.proto.task import locate

    digest = args.digest or locate(args.task).digest
    _local(args, command="approve-task", name=args.task, digest=digest)
    emit(args, {"approved": args.task, "digest": digest})
    return 0


def _journal(args: argparse.Namespace) -> int:
    from aimass.client.journal import read_journal

    lines = read_journal(args.dir / "journal.jsonl")
    if args.json:
        emit(args, lines)
    else:
        emit(
            args,
            [
                {
                    "at": line.at,
                    "run": line.run_id[:8],
                    "step": line.step,
                    "kind": line.kind,
                    "bytes": line.bytes,
                    "figures": ",".join(line.figures),
                    "mechanisms": ",".join(line.mechanisms),
                }
                for line in lines
            ],
        )
    return 0


def _policy(args: argparse.Namespace) -> Any:
    from aimass.client.policy import read_policy

    return read_policy((args.dir / "policy.toml").read_text("utf-8"), str(args.dir / "policy.toml"))


def _policy_show(args: argparse.Namespace) -> int:
    emit(args, _policy(args))
    return 0


def _policy_check(args: argparse.Namespace) -> int:
    from typing import get_args

    from aimass.client.keeper import Keeper
    from aimass.client.policy import Confinement, rules
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.plan import read_plan_draft
    from aimass.proto.task import locate

    draft = read_plan_draft(args.plan.read_text("utf-8"), str(args.plan))
    plan = draft.complete(locate(draft.task).digest, "0" * 64)
    partners = len(plan.cohort.partners or Keeper(args.dir, UNINTERRUPTED).roster.partners)
    checked = rules(_policy(args), plan, partners, frozenset(get_args(Confinement)))
    emit(args, [{"rule": r.name, "holds": r.holds, "plan": r.value, "limit": r.limit} for r in checked])
    return 0 if all(rule.holds for rule in checked) else 3


def _roster_show(args: argparse.Namespace) -> int:
    from aimass.client.keeper import Keeper
    from aimass.proto.durable import UNINTERRUPTED

    keeper = Keeper(args.dir, UNINTERRUPTED)
    members = [
        {"id": m.id, "role": m.role.name.lower(), "name": m.name, "identity": m.identity.hex()}
        for m in keeper.roster.members
    ]
    waiting = keeper.pending
    emit(
        args,
        {
            "epoch": keeper.roster.epoch,
            "digest": keeper.roster.digest,
            "root": keeper.root.fingerprint,
            "members": members,
            "waits": sorted(waiting.roster.by_name) if waiting else [],
        },
    )
    return 0


def _roster_approve(args: argparse.Namespace) -> int:
    from aimass.client.keeper import Keeper
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.errors import Unavailable

    try:
        _local(args, command="approve-roster")
    except Unavailable:
        Keeper(args.dir, UNINTERRUPTED).approve()
    return _roster_show(args)


def _data_add(args: argparse.Namespace) -> int:
    import secrets

    from aimass.client.policy import read_policy
    from aimass.client.shards import resolve
    from aimass.proto.durable import make_folder
    from aimass.proto.home import load_home
    from aimass.proto.manifest import read_shard_manifest

    participant = args.participant or load_home(args.dir).name
    uris = ", ".join(json.dumps(uri if "://" in uri else str(Path(uri).resolve())) for uri in args.uri)
    text = (
        f'name = "{args.name}"\ndata_schema = "{args.schema}"\nuris = [{uris}]\nformat = "{args.format}"\n'
        f'participant = "{participant}"\nsalt = "{args.salt or secrets.token_hex(32)}"\nheld_out = {args.held_out}\n'
    )
    manifest = read_shard_manifest(text, "the data set")
    resolve(manifest, args.dir / "data")
    make_folder(args.dir / "data")
    policy_file = args.dir / "policy.toml"
    policy = policy_file.read_text("utf-8")
    if args.schema not in read_policy(policy, str(policy_file)).schemas:
        policy = policy.replace("[schemas]\n", f'[schemas]\n"{args.schema}" = "{args.name}"\n', 1)
        read_policy(policy, str(policy_file))
    write_output(args.dir / "data" / f"{args.name}.toml", text.encode(), 0o600)
    write_output(policy_file, policy.encode())
    emit(args, {"data_set": args.name, "schema": args.schema, "participant": participant})
    return 0


def _data_check(args: argparse.Namespace) -> int:
    from aimass.client.shards import resolve
    from aimass.proto.manifest import read_shard_manifest
    from aimass.proto.rows import check, read_table
    from aimass.proto.task import load, locate

    path = args.dir / "data" / f"{args.name}.toml"
    manifest = read_shard_manifest(path.read_text("utf-8"), str(path))
    files = [file.open("rb") for file in resolve(manifest, args.dir / "data")]
    report = check(read_table(load(locate(args.task)).schema, files, manifest.format))
    for file in files:
        file.close()
    emit(
        args,
        {
            "rows": report.rows,
            "labels": dict(report.labels),
            "missing": dict(report.missing),
            "duplicates": report.duplicates,
            "findings": [
                {"row": f.row + 1, "column": f.column, "what": f.what, "cell": f.cell} for f in report.findings
            ],
        },
    )
    return 0 if not report.findings else 2
