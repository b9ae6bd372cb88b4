"""`aimass serve`: answer requests with models of a registry, see how that goes, and say who may ask."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aimass.proto.console import common, emit, group
from aimass.server.serving.watching.audit_cli import add_audit

__all__ = ["add_arguments", "with_verb"]

_EXAMPLE: Final = """examples:
  aimass serve heart --registry file:///srv/models --trust trust.json
  aimass serve heart@champion reviews@4 --registry s3://bucket/models --trust trust.json \\
               --http 0.0.0.0:8080 --grpc 0.0.0.0:8081 --tokens tokens.json
  curl -s http://localhost:8080/predict/heart -d '{"age": 61, "sex": "Male", ...}'
  aimass serve status
  aimass serve audit
  aimass serve token add clinic --tokens tokens.json --model heart

NAME is the model's champion, NAME@ALIAS what that alias points at, NAME@N version N. Nothing is served whose signature
and digest do not hold: --trust names a file that says whose signatures count (aimass model trust add).
/docs at the HTTP address shows how each model is asked. A file of settings (--settings) has more than the options here;
AIMASS_SERVE_* in the environment stands over it, and options over both.
"""
_VERBS: Final = ("start", "status", "audit", "token")
_HELP: Final = ("-h", "--help")


def with_verb(arguments: Sequence[str]) -> list[str]:
    """`aimass serve MODEL…` means `aimass serve start MODEL…`; a model that is called like a verb needs both words."""
    if not arguments or arguments[0] in (*_VERBS, *_HELP):
        return list(arguments)
    return ["start", *arguments]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass serve`."""
    commands = group(parser, _EXAMPLE)
    _add_start(commands)
    status = commands.add_parser("status", help="models, versions and shares of a running server")
    _add_server(status)
    common(status, _status)
    add_audit(commands)
    tokens = commands.add_parser("token", help="who may ask: make, list and revoke tokens")
    _add_tokens(tokens.add_subparsers(required=True, metavar="COMMAND"))


def _add_start(commands: Any) -> None:
    start = commands.add_parser("start", help="serve MODEL... until SIGTERM or Ctrl-C; `start` may be left out")
    start.add_argument("models", nargs="*", metavar="MODEL", help="NAME, NAME@ALIAS or NAME@N")
    start.add_argument("--registry", metavar="URL", help="where models are published (AIMASS_REGISTRY)")
    start.add_argument(
        "--trust", metavar="FILE", help="whose signatures count (else AIMASS_TRUST, or that of aimass model)"
    )
    start.add_argument("--http", metavar="HOST:PORT", help="for people and programs (127.0.0.1:8080)")
    start.add_argument("--grpc", metavar="HOST:PORT", help="the same protocol over gRPC")
    start.add_argument("--tokens", metavar="FILE", help="who may ask; without it everybody who reaches the port")
    start.add_argument("--open", action="store_true", default=None, help="everybody may, from other machines too")
    start.add_argument("--share-port", action="store_true", default=None, help="several processes on one port")
    start.add_argument("--cache", metavar="FOLDER", help="keeps what was fetched, so that a start needs no registry")
    start.add_argument("--device", help="where models compute: cpu, cuda, cuda:1 (cpu)")
    start.add_argument("--log", choices=("text", "json"), help="form of the log (text)")
    start.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with all of this and more")
    common(start, _start)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="where it answers HTTP (http://127.0.0.1:8080)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file whose first line is a token that may see")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM of who vouches for the server's certificate")


def _add_tokens(commands: Any) -> None:
    add = commands.add_parser("add", help="make a token; it is printed once, and kept nowhere")
    add.add_argument("name", help="of whom it is for")
    add.add_argument("--model", action="append", metavar="NAME", help="for this model (repeat); without it for all")
    add.add_argument(
        "--may", default="infer", metavar="WHAT,...", help="infer: ask models; see: status and figures; manage (infer)"
    )
    add.add_argument("--days", type=float, default=0.0, help="for so long; 0 is without an end (0)")
    listing = commands.add_parser("list", help="whose tokens there are")
    revoke = commands.add_parser("revoke", help="end a token; a running server knows within seconds")
    revoke.add_argument("name")
    for parser, handler in ((add, _token_add), (listing, _token_list), (revoke, _token_revoke)):
        parser.add_argument("--tokens", type=Path, default=Path("tokens.json"), help="their file (./tokens.json)")
        common(parser, handler)


_OPTIONS: Final = ("registry", "trust", "http", "grpc", "tokens", "open", "share_port", "cache", "device", "log")


def _start(args: argparse.Namespace) -> int:
    import gc

    import uvloop

    from aimass.proto.logs import configure_logs
    from aimass.server.running import run_until_told
    from aimass.server.serving.dispatching import local_dispatcher
    from aimass.server.serving.main import Started, serve
    from aimass.server.serving.settings import load_settings

    over = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    settings = load_settings(args.settings, over | ({"models": args.models} if args.models else {}))
    configure_logs(settings.log, quiet=args.quiet)

    def ready(started: Started) -> None:
        if args.json:
            fields = {"http_port": started.http_port, "grpc_port": started.grpc_port, "watch_port": started.watch_port}
            line = json.dumps({"ready": True, "url": started.url} | fields)
        else:
            grpc = f", gRPC on port {started.grpc_port}" if started.grpc_port else ""
            line = f"ready: {started.url}/docs{grpc}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        gc.collect()
        gc.freeze()  # what is here lives for good: to walk over it again and again would hold requests up

    run_until_told(lambda stop: serve(settings, local_dispatcher, stop, ready), uvloop.new_event_loop)
    return 0


def _status(args: argparse.Namespace) -> int:
    from aimass.proto.console import plain, table
    from aimass.proto.serving_client import ServingClient
    from aimass.proto.serving_views import sentences_of

    found = ServingClient(args.url, args.token_file, args.ca).status()
    if args.json:
        emit(args, found)
        return 0
    emit(args, {"release": found.release, "since": found.began_at})
    rows = [
        {"model": model.name, "state": model.state} | _shown(plain(version))
        for model in found.models
        for version in model.versions or (None,)
    ]
    if rows:
        table(rows)
    for model in found.models:
        for line in () if model.watch is None else sentences_of(model.watch):
            sys.stdout.write(f"{line}\n")
    return 0


def _shown(version: Any) -> dict[str, Any]:
    """A version's columns; its digest short, for the eye."""
    if version is None:
        return {"version": None, "share": None}
    named = {name: version[name] for name in ("version", "share", "workers", "resident_bytes", "published_at")}
    return named | {"digest": version["digest"][:12], "task": version["task"] or None}


def _token_add(args: argparse.Namespace) -> int:
    import secrets
    import time

    from aimass.proto.values import convert
    from aimass.server.serving.tokens import (
        ANY_MODEL,
        Token,
        added,
        digest_of_token,
        make_token,
        read_tokens,
        write_tokens,
    )

    secret, now = make_token(secrets.token_bytes), time.time()
    fields = {
        "name": args.name,
        "digest": digest_of_token(secret.reveal()),
        "models": args.model or [ANY_MODEL],
        "may": args.may.split(","),
        "created_at": now,
        "expires": now + 86_400 * args.days if args.days else 0.0,
    }
    token = convert(Token, fields, "the token")
    write_tokens(args.tokens, added(read_tokens(args.tokens, absent=True), token))
    emit(args, {"token": secret.reveal().decode(), "name": token.name, "models": token.models, "may": token.may})
    return 0


def _token_list(args: argparse.Namespace) -> int:
    from aimass.server.serving.tokens import read_tokens

    held = read_tokens(args.tokens).tokens
    emit(
        args,
        [
            {
                "name": token.name,
                "models": token.models,
                "may": token.may,
                "created_at": token.created_at,
                "expires": token.expires or None,
            }
            for token in held
        ]
        or "no tokens",
    )
    return 0


def _token_revoke(args: argparse.Namespace) -> int:
    from aimass.server.serving.tokens import read_tokens, revoked, write_tokens

    write_tokens(args.tokens, revoked(read_tokens(args.tokens), args.name))
    emit(args, {"revoked": args.name})
    return 0
