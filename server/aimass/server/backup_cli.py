"""`aimass server backup | restore`: a copy of a running server, and a server made from it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.proto.console import Bar, common, emit, say

if TYPE_CHECKING:
    from aimass.server.backup_manifest import Manifest

__all__ = ["add_backup", "add_restore"]

_KEYS = "the server's private keys are in this backup, readable by its owner alone: guard it as you guard the server"
_NO_KEYS = "the server's private keys are not in it: keep a copy of keys/ apart, or say --with-keys"


def add_backup(commands: Any) -> None:
    """Add `backup`, and `backup verify`."""
    backup = commands.add_parser("backup", help="copy a server, running or not, into a folder; or verify such a copy")
    backup.add_argument("--dir", type=Path, default=Path("server"), help="the server's folder, running or not")
    backup.add_argument("--to", type=Path, help="the backup's folder; what it holds already is not copied again")
    backup.add_argument("--with-keys", action="store_true", help="with the server's private keys")
    common(backup, _backup)
    verify = backup.add_subparsers(metavar="verify").add_parser("verify", help="read every file of a backup again")
    verify.add_argument("folder", type=Path)
    common(verify, _verify)


def add_restore(commands: Any) -> None:
    """Add `restore`."""
    restore = commands.add_parser("restore", help="make a server's folder from a backup, in a new place")
    restore.add_argument("backup", type=Path, help="the backup's folder")
    restore.add_argument("--dir", type=Path, required=True, help="the new server's folder; nothing may be there")
    common(restore, _restore)


def _backup(args: argparse.Namespace) -> int:
    from aimass.proto.errors import BadInput
    from aimass.server.backup import back_up

    if args.to is None:
        raise BadInput("a backup needs a folder", code="backup.to", cure="Say --to FOLDER, on another disk.")
    with Bar(args, "backup") as bar:
        manifest = back_up(args.dir, args.to, with_keys=args.with_keys, progress=bar)
    say(args, _KEYS if manifest.keys else _NO_KEYS)
    emit(args, _described(args.to, manifest) | {"next": f"aimass server backup verify {args.to}"})
    return 0


def _described(folder: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "backup": str(folder),
        "server": manifest.server,
        "created_at": manifest.created_at,
        "software": manifest.software,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "runs": manifest.runs,
        "open_runs": [run_id[:8] for run_id in manifest.open_runs],
        "roster_epoch": manifest.roster_epoch,
        "keys": manifest.keys,
        "left_out": len(manifest.left_out),
    }


def _verify(args: argparse.Namespace) -> int:
    from aimass.server.backup_manifest import read_manifest, verify

    manifest = read_manifest(args.folder)
    with Bar(args, "verify") as bar:
        verify(args.folder, manifest, bar)
    emit(args, _described(args.folder, manifest) | {"whole": True})
    return 0


def _restore(args: argparse.Namespace) -> int:
    from aimass.server.restore import restore

    with Bar(args, "restore") as bar:
        done = restore(args.backup, args.dir, bar)
    manifest = done.manifest
    steps = [] if done.keys else [f"put the server's tls.key and identity.key into {args.dir}/keys (mode 0600)"]
    steps += [
        f"install the root holder's newest bundle: aimass server admit BUNDLE --dir {args.dir}",
        "make sure that the old server is stopped for good",
        f"aimass server start --dir {args.dir}",
    ]
    emit(
        args,
        {
            "restored": str(args.dir),
            "server": manifest.server,
            "backup_at": manifest.created_at,
            "runs": manifest.runs,
            "open_runs": [run_id[:8] for run_id in done.open_runs],
            "roster_epoch": manifest.roster_epoch,
            "missing": [] if done.keys else ["keys"],
            "next": steps,
        },
    )
    return 0
