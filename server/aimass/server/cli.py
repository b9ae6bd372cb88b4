"""`aimass server`: the operator's commands."""

from __future__ import annotations

import argparse
import hashlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

from aimass.proto.apps_cli import add_app_commands
from aimass.proto.console import Handler, common, emit, group, say, write_output
from aimass.server.backup_cli import add_backup, add_restore

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass server init server --token server.token --listen 0.0.0.0:8443 --enrol-listen 0.0.0.0:8444
  aimass pki roster sign --root root --requests server/server.request --out bundle.json   (root holder)
  aimass server admit bundle.json --dir server
  aimass server start --dir server
  aimass server backup --dir server --to /mnt/other/backup
  aimass server enrolments --as operator --out requests.json
  aimass server admit bundle.json --as operator
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass server`."""
    commands = group(parser, _EXAMPLE)
    init = commands.add_parser("init", help="make a server: keys, settings, and its enrolment request")
    init.add_argument("dir", type=Path)
    init.add_argument("--token", type=Path, required=True, help="file with the server's token")
    init.add_argument("--listen", default="127.0.0.1:8443")
    init.add_argument("--enrol-listen", default="127.0.0.1:8444")
    common(init, _init)
    admit = commands.add_parser("admit", help="install a bundle that the root holder signed")
    admit.add_argument("bundle", type=Path)
    target = admit.add_mutually_exclusive_group(required=True)
    target.add_argument("--dir", type=Path, help="the server's folder, while it is not running")
    target.add_argument("--as", dest="home", type=Path, help="the operator's folder, for a running server")
    common(admit, _admit)
    retire = commands.add_parser("retire-root", help="after a succession: open no more links by the root before")
    retire.add_argument("--dir", type=Path, default=Path("server"), help="the server's folder, while it is not running")
    common(retire, _retire)
    gc = commands.add_parser("gc", help="delete what no run keeps: models, and uploads that were given up")
    gc.add_argument("--dir", type=Path, default=Path("server"), help="the server's folder, while it is not running")
    gc.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    common(gc, _gc)
    add_backup(commands)
    add_restore(commands)
    audit = commands.add_parser("audit", help="tell a run again from its transcript: exit code 3 where it does not fit")
    audit.add_argument("run", help="its id, the first digits of it, or `last`")
    audit.add_argument("--dir", type=Path, default=Path("server"), help="the server's folder, running or not")
    common(audit, _audit)
    start = commands.add_parser("start", help="run the server until SIGTERM or Ctrl-C")
    start.add_argument("--dir", type=Path, default=Path("server"))
    common(start, _start)
    app = commands.add_parser("app", help="Flower apps whose server half runs here").add_subparsers(required=True)
    add_app_commands(partial(_in_folder, app), "partners install it too: aimass client app install", _spare)
    status = commands.add_parser("status", help="the running server at a glance")
    status.add_argument("--as", dest="home", type=Path, required=True, help="the operator's folder")
    common(status, _status)
    enrolments = commands.add_parser("enrolments", help="requests that wait for the root holder")
    enrolments.add_argument("--as", dest="home", type=Path, required=True, help="the operator's folder")
    enrolments.add_argument("--dir", type=Path, help=argparse.SUPPRESS)
    enrolments.add_argument("--out", type=Path, help="write them to a file for `aimass pki roster sign`")
    common(enrolments, _enrolments)


def _in_folder(commands: Any, name: str, text: str, handler: Handler) -> argparse.ArgumentParser:
    """A command on the server's folder, running or not."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--dir", type=Path, default=Path("server"), help="the server's folder, running or not")
    common(parser, _of_a_server(handler))
    return parser


def _of_a_server(handler: Handler) -> Handler:
    def run(args: argparse.Namespace) -> int:
        from aimass.server.settings import load_settings

        load_settings(args.dir)
        return handler(args)

    return run


def _init(args: argparse.Namespace) -> int:
    import time

    from aimass.privacy.enrolment import make_request, read_token, request_fingerprint
    from aimass.privacy.keys import create_keys
    from aimass.privacy.pki import Role
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import BadInput
    from aimass.proto.values import canonical_json
    from aimass.proto.views import EnrolmentList, EnrolmentView
    from aimass.proto.wire import split_address
    from aimass.server.settings import template

    token = read_token(args.token.read_text("ascii"))
    if token.role is not Role.SERVER:
        raise BadInput("this token is not a server's", code="server.token", value=token.role, limit="server")
    split_address(args.listen)
    split_address(args.enrol_listen)
    make_folder(args.dir)
    request = make_request(token, create_keys(args.dir / "keys"))
    write_output(args.dir / "root.pem", token.root.encode())
    write_output(args.dir / "server.toml", template(token.name, args.listen, args.enrol_listen).encode())
    view = EnrolmentView(
        name=token.name,
        role=token.role,
        fingerprint=request_fingerprint(request),
        received_at=time.time(),
        request=canonical_json(request).decode(),
    )
    write_output(args.dir / "server.request", canonical_json(EnrolmentList(requests=(view,))))
    emit(args, {"folder": str(args.dir), "request": str(args.dir / "server.request"), "fingerprint": view.fingerprint})
    return 0


def _admit(args: argparse.Namespace) -> int:
    data = args.bundle.read_bytes()
    if args.home is not None:
        from aimass.proto.api import Federation

        with Federation.open(args.home) as federation:
            emit(args, federation.install_trust(data))
        return 0
    from aimass.privacy.keys import load_keys, spki
    from aimass.privacy.roster import compare
    from aimass.privacy.trust_bundle import Root, open_bundle
    from aimass.proto.errors import BadInput
    from aimass.server.settings import load_settings

    load_settings(args.dir)
    root = Root.from_pem((args.dir / "root.pem").read_bytes())
    offered = open_bundle(data, root)
    if offered.roster.server.tls_sha256 != hashlib.sha256(spki(load_keys(args.dir / "keys").tls)).digest():
        raise BadInput(
            "the bundle is for a server with other keys",
            code="server.other_keys",
            value=offered.roster.server.name,
            cure=f"Have the root holder sign {args.dir}/server.request.",
        )
    held = args.dir / "bundle.json"
    if held.is_file():
        compare(open_bundle(held.read_bytes(), root).roster, offered.roster)
    write_output(held, data)
    emit(args, {"epoch": offered.roster.epoch, "partners": list(offered.roster.partners)})
    return 0


def _retire(args: argparse.Namespace) -> int:
    from aimass.proto.durable import only_one
    from aimass.proto.errors import NotFound
    from aimass.server.trust import PREVIOUS

    with only_one(args.dir, "server"):
        path = args.dir / PREVIOUS
        if not path.is_file():
            raise NotFound("no root was succeeded here", code="server.no_previous_root", value=path)
        path.unlink()
    emit(args, {"retired": str(path), "next": f"aimass server start --dir {args.dir}"})
    return 0


def _gc(args: argparse.Namespace) -> int:
    from aimass.proto.durable import only_one
    from aimass.server.garbage import collect

    with only_one(args.dir, "server"):
        found = collect(args.dir, dry_run=args.dry_run)
    emit(args, {"deleted" if not args.dry_run else "would_delete": len(found), "bytes": sum(found.values())})
    return 0


def _spare(folder: Path, name: str, digest: str) -> None:
    from aimass.server.needed_apps import spare

    spare(folder, name, digest)


def _audit(args: argparse.Namespace) -> int:
    from aimass.privacy.trust_bundle import Root, open_bundle
    from aimass.proto.errors import NotFound
    from aimass.server.audit import audit_run, gather
    from aimass.server.settings import load_settings
    from aimass.server.store_copy import inspecting

    load_settings(args.dir)
    path = args.dir / "data" / "runs.sqlite"
    if not path.is_file():
        raise NotFound("this server has not run yet", code="server.no_store", value=path)
    roster = open_bundle((args.dir / "bundle.json").read_bytes(), Root.from_pem((args.dir / "root.pem").read_bytes()))
    with inspecting(path) as store:
        rows = store.runs()
        found = rows[-1:] if args.run == "last" else [row for row in rows if row.run_id.startswith(args.run)]
        if len(found) != 1:
            raise NotFound(
                "no such run, or more than one", code="run.unknown", value=args.run, limit=f"{len(found)} found",
                cure="aimass run list shows all.",
            )  # fmt: skip
        evidence = gather(store, found[0], roster.roster)
    audit = audit_run(evidence)
    emit(args, audit)
    return 3 if audit.faults else 0


def _start(args: argparse.Namespace) -> int:
    from aimass.proto.allocator import one_arena
    from aimass.proto.logs import configure_logs
    from aimass.server.main import Started, serve
    from aimass.server.running import run_until_told
    from aimass.server.settings import load_settings

    one_arena()
    configure_logs(load_settings(args.dir).log, quiet=args.quiet)

    def ready(started: Started) -> None:
        for run_id in started.resumed:
            say(args, f"resuming run {run_id}")
        sys.stdout.write(f"ready: port {started.port}, enrolment on port {started.enrol_port}\n")
        sys.stdout.flush()

    run_until_told(lambda stop: serve(args.dir, stop, ready))
    return 0


def _status(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        emit(args, federation.status())
    return 0


def _enrolments(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation
    from aimass.proto.values import canonical_json

    with Federation.open(args.home) as federation:
        waiting = federation.enrolments()
    if args.out is not None:
        write_output(args.out, canonical_json(waiting))
        emit(args, {"written": str(args.out), "requests": len(waiting.requests)})
    else:
        emit(
            args,
            {"requests": [{"name": r.name, "role": r.role, "fingerprint": r.fingerprint} for r in waiting.requests]},
        )
    return 0
