"""`aimass model list | show | diff | lineage | verify | export` of a registry: what stands there, and whom it is by."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, plain, say, table, write_output
from aimass.proto.registry.places import add_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aimass.proto.errors import AimassError
    from aimass.proto.registry.reader import RegistryReader, Resolved

__all__ = ["add_verbs", "export_model", "list_models", "show_model"]

_REFERENCE: Final = "NAME (its champion), NAME@ALIAS or NAME@NUMBER"
_NOT_WHOLE: Final = 8
"""Exit code where something is not what was signed: that of a broken integrity."""
_VERIFYING: Final = """Reads everything of a model: whether each document is signed by somebody whom the trust file
believes, and whether each part has the bytes that its version names. Exit code 8 where something is wrong.
"""


def add_verbs(commands: Any) -> None:
    """Add the verbs that read a registry and that a training server has not."""
    diff = commands.add_parser("diff", help="registry: what differs between two versions")
    diff.add_argument("first", help=_REFERENCE)
    diff.add_argument("second", help="another, of any name")
    diff.add_argument("--tensors", action="store_true", help="fetch both, and say how far each tensor moved")
    add_registry(diff)
    common(diff, _diff)
    lineage = commands.add_parser("lineage", help="registry: which version came from which")
    lineage.add_argument("name", help="of this model")
    lineage.add_argument(
        "--dot", action="store_true", help="for Graphviz: aimass model lineage heart --dot | dot -Tsvg"
    )
    add_registry(lineage)
    common(lineage, _lineage)
    verify = commands.add_parser("verify", help="registry: read all and check all", description=_VERIFYING)
    verify.add_argument("what", help="a model, or one version as NAME@NUMBER")
    add_registry(verify)
    common(verify, _verify)


def list_models(args: argparse.Namespace) -> int:
    """`aimass model list [NAME] --registry URL`."""
    from aimass.server.registry.opening import opened

    reader = opened(args).reader
    names = (args.name,) if args.name else reader.names()
    rows = [row for name in names for row in _rows(reader, name, args.limit)]
    emit(args, rows if rows or args.json else "no version of a model stands in this registry")
    return 0


def _rows(reader: RegistryReader, name: str, limit: int) -> Iterator[dict[str, Any]]:
    aliases = {alias: _named(reader, name, alias) for alias in reader.aliases(name)}
    was = {state.version for alias in aliases for state in reader.history(name, alias)}
    for _, (number, found) in zip(range(limit), reader.every(name), strict=False):
        names = [alias for alias, names in aliases.items() if names == number]
        stage = ", ".join(names) or ("archived" if number in was else "")
        yield _row(f"{name}@{number}", stage, found)


def _row(version: str, stage: str, found: Resolved | AimassError) -> dict[str, Any]:
    from aimass.proto.registry.reader import Resolved

    if not isinstance(found, Resolved):
        return {"version": version, "stage": stage, "published_at": None, "by": f"not believed: {found.code}"}
    said = found.version
    return {
        "version": version,
        "stage": stage,
        "published_at": said.created_at,
        "by": found.signer,
        "task": said.task.name,
        "run": said.run.name if said.run is not None else "",
        "epsilon": said.privacy.epsilon,
        "metrics": {name: round(metric.mean, 4) for name, metric in sorted(said.metrics.items())},
    }


def _named(reader: RegistryReader, name: str, alias: str) -> int | None:
    """The number of the version that an alias names; None where that is not believed."""
    from aimass.proto.errors import NotFound
    from aimass.proto.registry.layout import Reference
    from aimass.proto.registry.reader import UNVERIFIED

    try:
        return reader.resolve(Reference(name, alias=alias)).version.number
    except (*UNVERIFIED, NotFound):
        return None


def show_model(args: argparse.Namespace) -> int:
    """`aimass model show REFERENCE --registry URL`: the card, or all of it as JSON."""
    from aimass.server.registry.opening import opened

    found = opened(args).reader.resolve(args.digest)
    if args.json:
        emit(
            args, {"digest": found.digest, "signer": found.signer, "alias": plain(found.alias), **plain(found.version)}
        )
        return 0
    sys.stdout.write(found.version.card)
    sys.stdout.write(f"Signed by {found.signer}, who is believed; its document is `{found.digest}`.\n")
    if found.alias is not None:
        state = found.alias
        sys.stdout.write(f"It is {state.alias} since move {state.number}, by {found.promoter}: {state.reason}\n")
    return 0


def export_model(args: argparse.Namespace) -> int:
    """`aimass model export REFERENCE PATH --registry URL`: the whole version as one folder, or in another form."""
    from aimass.server.registry.folders import export_folder
    from aimass.server.registry.opening import opened

    registry = opened(args)
    found = registry.reader.resolve(args.digest)
    if args.format not in {None, "folder"}:
        return _export_form(args, registry.reader, found)
    say(args, f"fetching {found}")
    export_folder(registry.store, registry.reader, found, args.path)
    emit(args, {"written": str(args.path), "version": str(found), "digest": found.digest})
    return 0


def _export_form(args: argparse.Namespace, reader: RegistryReader, found: Resolved) -> int:
    """It runs the task's code here, which builds the model."""
    from aimass.server.registry.exporting import exported

    say(args, f"making {args.format} of {found}")
    export = exported(args.format, reader, found)
    if export.single is not None:
        write_output(args.path, export.single)
    else:
        args.path.mkdir()
        for name, data in export.files.items():
            write_output(args.path / name, data)
    told = {"written": str(args.path), "version": str(found), **export.notes}
    if export.parity is not None:
        told |= {"rows_compared": export.parity.rows, "largest_difference": export.parity.worst}
    emit(args, told)
    return 0


def _diff(args: argparse.Namespace) -> int:
    from aimass.proto.registry.comparing import differences
    from aimass.server.registry.opening import opened

    reader = opened(args).reader
    first, second = reader.resolve(args.first), reader.resolve(args.second)
    told = plain(differences(first.version, second.version))
    tensors = _tensors(reader, first, second) if args.tensors else []
    if args.json:
        emit(args, {"first": str(first), "second": str(second), "differences": told, "tensors": tensors})
        return 0
    for rows in (told, tensors):
        if rows:
            table(rows)
    if not told:
        emit(args, f"{first} and {second} say the same")
    return 0


def _tensors(reader: RegistryReader, first: Resolved, second: Resolved) -> list[dict[str, Any]]:
    from aimass.proto.registry.comparing import tensor_differences
    from aimass.proto.storage import map_file
    from aimass.proto.tensors import Blob

    with tempfile.TemporaryDirectory() as folder:
        blobs = [Blob(map_file(reader.parameters(one.version, Path(folder)))) for one in (first, second)]
        found: list[dict[str, Any]] = plain(tensor_differences(blobs[0], blobs[1]))
        return found


def _lineage(args: argparse.Namespace) -> int:
    from aimass.proto.registry.lineage import as_dot, as_text, lineage_of
    from aimass.proto.registry.reader import Resolved
    from aimass.server.registry.opening import opened

    reader = opened(args).reader
    reader.resolve(f"{args.name}@{max(reader.versions(args.name), default=1)}")  # raises where there is no such model
    aliases = {alias: number for alias in reader.aliases(args.name) if (number := _named(reader, args.name, alias))}
    found = lineage_of(args.name, (one for _, one in reader.every(args.name) if isinstance(one, Resolved)), aliases)
    if args.json:
        emit(args, found)
    else:
        sys.stdout.write(as_dot(found) if args.dot else as_text(found))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from aimass.proto.registry.layout import read_reference
    from aimass.server.registry.opening import opened
    from aimass.server.registry.verifying import verified

    registry = opened(args)
    wanted = read_reference(args.what)
    number = wanted.number or (registry.reader.resolve(wanted).version.number if "@" in args.what else 0)
    findings = verified(registry.store, registry.trust, wanted.name, number, lambda text: say(args, text))
    wrong = [one for one in findings if not one.collected]
    emit(args, {"of": args.what, "wrong": len(wrong), "findings": findings})
    return _NOT_WHOLE if wrong else 0
