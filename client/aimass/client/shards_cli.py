"""`aimass client data add | check`: a partner's data sets, declared and checked before anything runs on them."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.console import emit, write_output

if TYPE_CHECKING:
    from aimass.proto.rows import Report

__all__ = ["data_add", "data_check"]


def data_add(args: argparse.Namespace) -> int:
    """Declare a data set, and map its schema to it in the policy."""
    import secrets

    from aimass.client.policy import read_policy
    from aimass.client.row_sketch import check_here
    from aimass.client.shards import resolve
    from aimass.proto.app_config import parse_config
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import BadInput, Conflict
    from aimass.proto.home import load_home
    from aimass.proto.manifest import read_shard_manifest, shard_manifest_text

    if args.format != "files" and not args.uri:
        raise BadInput("a data set of rows needs its files", code="data.uri", cure="Name each by --uri FILE.")
    node = parse_config(args.node_config, "--node-config")
    participant = args.participant or load_home(args.dir).name
    text = shard_manifest_text(
        {
            "name": args.name,
            "data_schema": args.schema,
            "uris": tuple(uri if "://" in uri else str(Path(uri).resolve()) for uri in args.uri),
            "format": args.format,
            "participant": participant,
            "salt": args.salt or secrets.token_hex(32),
            "held_out": args.held_out,
            "person": args.person,
            "node_config": node,
        },
        "the data set",
    )
    manifest = read_shard_manifest(text, "the data set")
    resolve(manifest, args.dir / "data")
    held = args.dir / "data" / f"{args.name}.toml"
    if held.exists():
        raise Conflict(
            "a data set of this name is here",
            code="data.exists",
            value=held,
            cure="Its salt decides which rows are held out: edit the file, or choose another name.",
        )
    check_here(args.dir, manifest, args.another)
    make_folder(held.parent)
    policy_file = args.dir / "policy.toml"
    policy = policy_file.read_text("utf-8")
    if args.schema not in read_policy(policy, str(policy_file)).schemas:
        policy = policy.replace("[schemas]\n", f'[schemas]\n"{args.schema}" = "{args.name}"\n', 1)
    answers = read_policy(policy, str(policy_file)).schemas.get(args.schema)
    if answers is None:
        raise BadInput(
            "the policy has no line [schemas] to write to",
            code="data.no_schemas",
            value=policy_file,
            cure="Add it as a line of its own, at the end.",
        )
    write_output(held, text.encode(), 0o600)
    write_output(policy_file, policy.encode())
    emit(args, {"data_set": args.name, "schema": args.schema, "participant": participant, "answers_plans": answers})
    return 0


def data_check(args: argparse.Namespace) -> int:
    """Read a data set against its task's schema; exit code 2 where something does not fit."""
    from aimass.client.shards import check_schema, read_rows, resolve
    from aimass.proto.errors import BadInput, NotFound
    from aimass.proto.manifest import read_shard_manifest
    from aimass.proto.rows import check, require
    from aimass.proto.task import load, locate

    path = args.dir / "data" / f"{args.name}.toml"
    if not path.is_file():
        raise NotFound(
            "no such data set here", code="data.absent", value=path, cure=f"aimass client data add --dir {args.dir}."
        )
    manifest = read_shard_manifest(path.read_text("utf-8"), str(path))
    if manifest.format == "files":
        raise BadInput(
            "this data set is files for apps, which have no schema to check them against",
            code="data.files",
            value=args.name,
            cure="The app itself says what is wrong with them.",
        )
    schema = load(locate(args.task)).schema
    check_schema(manifest, schema)
    with contextlib.ExitStack() as open_files:
        files = [open_files.enter_context(file.open("rb")) for file in resolve(manifest, args.dir / "data")]
        table = read_rows(schema, manifest, files)
    report = check(table)
    emit(
        args,
        {
            "rows": report.rows,
            "labels": dict(report.labels),
            "missing": dict(report.missing),
            "duplicates": report.duplicates,
            **_persons(report),
            "findings": [
                {"row": f.row + 1, "column": f.column, "what": f.what, "cell": f.cell} for f in report.findings
            ],
        },
    )
    if report.findings:
        return 2
    require(table)
    return 0


def _persons(report: Report) -> dict[str, object]:
    """What helps to choose how many rows of a person a plan takes."""
    of = report.rows_by_person
    return {"persons": len(of), "rows_of_a_person": {"median": of[len(of) // 2], "most": of[-1]}} if of else {}
