"""`aimass client data add | check`: a partner's data sets, declared and checked before anything runs on them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aimass.proto.console import emit, write_output

__all__ = ["data_add", "data_check"]


def data_add(args: argparse.Namespace) -> int:
    """Declare a data set, and map its schema to it in the policy."""
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


def data_check(args: argparse.Namespace) -> int:
    """Read a data set against its task's schema; exit code 2 where something does not fit."""
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
