"""`aimass model publish | promote | rollback | import | gc`: what changes a registry, and is signed by who does it."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import Bar, common, emit, say
from aimass.proto.registry.entries import CHAMPION
from aimass.proto.registry.places import add_registry
from aimass.proto.run_cli import add_home

if TYPE_CHECKING:
    from aimass.proto.registry.reader import Resolved
    from aimass.proto.rows import Table
    from aimass.proto.task import Task
    from aimass.server.registry.opening import Opened
    from aimass.server.registry.parts import Publication

__all__ = ["add_verbs"]

_PUBLISHING: Final = """Makes the next version of a model, signed with the key in your folder: of a run that has ended
at a server, or with --task of a file of parameters. With --rows it is measured here on rows of yours that it has not
learnt from. Nothing serves it before it is promoted.
"""
_PROMOTING: Final = """Lets an alias name a version: what serves NAME@champion goes over to it. Signed with the key in
your folder. Where the model has rules (`aimass model rules`), a champion has to fulfil them. Of two who promote at once
one is told, and decides anew.
"""
_NOT_HELD: Final = 3
"""Exit code of `--check` where a rule does not hold: that of what is refused."""
_COLLECTING: Final = """Deletes parameters of versions that no alias names, nor a rollback leads to, beside the newest
and the parents of those that stay. In two runs: the first notes them, one that comes a grace period later deletes them.
The signed documents stay.
"""


def add_verbs(commands: Any) -> None:
    """Add the verbs that change a registry."""
    publish = _verb(commands, "publish", "a run's model, or a file, as the next version", _PUBLISHING)
    publish.add_argument("of", help="a run (its id, the first digits of it, or `last`); with --task a safetensors file")
    publish.add_argument("--name", default="", help="the model's name in the registry (default: the task's)")
    publish.add_argument("--task", default="", help="publish a file of parameters of this task, installed here")
    publish.add_argument("--rows", type=Path, metavar="FILE", help="held-out rows to measure it on: CSV or Parquet")
    publish.add_argument("--licence", default="", help="under which it may be used")
    publish.add_argument("--no-smoke", action="store_true", help="without rows to try it on before it is served")
    common(publish, _publish)
    promote = _verb(commands, "promote", "let an alias name a version", _PROMOTING)
    promote.add_argument("to", metavar="VERSION", help="NAME@NUMBER, or NAME@ALIAS for what that names now")
    promote.add_argument("--alias", default="champion", help="which alias (champion)")
    promote.add_argument("--reason", default="promoted by hand", help="for who reads the history")
    promote.add_argument("--check", action="store_true", help="say what each rule says of it, and change nothing")
    promote.add_argument("--despite-rules", action="store_true", help="make it champion though a rule does not hold")
    common(promote, _promote)
    rollback = _verb(commands, "rollback", "let an alias name what it named before", "")
    rollback.add_argument("name", help="NAME, or NAME@ALIAS; NAME alone is its champion")
    rollback.add_argument("--reason", default="rolled back by hand", help="for who reads the history")
    common(rollback, _rollback)
    importing = commands.add_parser("import", help="registry: take a version from a folder that `export` wrote")
    importing.add_argument("folder", type=Path)
    importing.add_argument("--as", dest="home", type=Path, help="sign it yourself, under the next number")
    add_registry(importing)
    common(importing, _import)
    gc = commands.add_parser("gc", help="registry: delete parameters of old versions", description=_COLLECTING)
    gc.add_argument("name", help="of this model")
    gc.add_argument("--keep", type=int, default=10, metavar="N", help="the newest versions that stay (10)")
    gc.add_argument("--grace-hours", type=float, default=24.0, metavar="H", help="between the two runs (24)")
    gc.add_argument("--dry-run", action="store_true", help="say what would be deleted now, and write nothing")
    add_registry(gc)
    common(gc, _gc)


def _verb(commands: Any, name: str, text: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=f"registry: {text}", description=description)
    add_home(parser)
    add_registry(parser)
    return parser


def _publish(args: argparse.Namespace) -> int:
    from aimass.server.registry.opening import opened

    registry = opened(args)
    publisher = registry.publisher(args)
    with tempfile.TemporaryDirectory() as folder:
        publication = _file(args) if args.task else _run(args, registry, Path(folder))
        say(args, f"publishing {publication.version.name}")
        found = publisher.publish(publication)
    smoke = "none" if found.version.smoke is None else "kept"
    told = {"published": str(found), "digest": found.digest, "signed_by": found.signer, "smoke_inputs": smoke}
    emit(args, told)
    say(args, f"It is not served yet. To serve it: aimass model promote {found} --as {args.home}")
    return 0


def _run(args: argparse.Namespace, registry: Opened, folder: Path) -> Publication:
    from aimass.proto.api import Federation
    from aimass.proto.registry.reader import Resolved
    from aimass.server.registry.making import of_run, with_parent

    with Federation.open(args.home) as federation, Bar(args, "model") as bar:
        run = federation.run(args.of).refresh()
        model = federation.model(run.summary.model)
        manifest = federation.manifest(run.summary.run_id)
        parameters = federation.export(model.digest, folder / "model.safetensors", bar)
    task = _task(args, run.plan.task.name, run.plan.task.digest) if run.plan.task.kind == "task" else None
    schema = run.plan.schema or (task.schema if task is not None else None)
    made = of_run(args.name or run.plan.task.name, run, model, manifest, parameters, schema)
    versions = [found for _, found in registry.reader.every(made.version.name) if isinstance(found, Resolved)]
    return _completed(args, with_parent(made, run.plan.model, versions), task)


def _file(args: argparse.Namespace) -> Publication:
    from aimass.proto.task import load, locate
    from aimass.server.registry.making import of_file

    source = locate(args.task)
    task = load(source)
    return _completed(args, of_file(args.name or args.task, source, task.schema, Path(args.of)), task)


def _task(args: argparse.Namespace, name: str, digest: str) -> Task | None:
    """The run's very task, where it is installed here."""
    from aimass.proto.errors import NotFound, NotInstalled
    from aimass.proto.task import load, locate

    with contextlib.suppress(NotFound, NotInstalled):
        source = locate(name)
        if source.digest == digest:
            return load(source)
    say(args, f"the task {name} of the run is not installed here: the model cannot be tried or measured")
    return None


def _completed(args: argparse.Namespace, made: Publication, task: Task | None) -> Publication:
    import dataclasses

    import msgspec

    from aimass.proto.hashing import file_digest
    from aimass.server.registry.making import with_evaluation, with_smoke

    version = msgspec.structs.replace(made.version, licence=args.licence)
    made = dataclasses.replace(made, version=version)
    if task is None:
        return made
    if args.rows is not None:
        say(args, f"measuring it on {args.rows}")
        made = with_evaluation(made, task, _rows(task, args.rows), file_digest(args.rows))
    return made if args.no_smoke else with_smoke(made, task)


def _rows(task: Task, path: Path) -> Table:
    from aimass.proto.rows import read_table

    with path.open("rb") as file:
        return read_table(task.schema, [file], "parquet" if path.suffix == ".parquet" else "csv")


def _promote(args: argparse.Namespace) -> int:
    from aimass.server.registry.opening import opened

    registry = opened(args)
    to = registry.reader.resolve(args.to)
    if args.check:
        return _checked(args, registry, to)
    after = _held(args, registry, to) if args.alias == CHAMPION and not args.despite_rules else None
    state = registry.aliases(args).point(args.alias, to, args.reason, after)
    emit(args, {"promoted": str(to), "alias": f"{state.model}@{state.alias}", "move": state.number, "by": state.by})
    return 0


def _checked(args: argparse.Namespace, registry: Opened, to: Resolved) -> int:
    from aimass.server.registry.rules_cli import asked_rules, tell

    decision = asked_rules(args, registry, to)
    tell(args, decision)
    return 0 if decision.judgement.passed else _NOT_HELD


def _held(args: argparse.Namespace, registry: Opened, to: Resolved) -> int | None:
    """The champion's state that the rules have compared with, None without rules; `Refused` where one does not hold."""
    from aimass.server.registry.moving import decision_on, refuse_unless_passed

    say(args, f"asking the rules about {to}")
    decision = decision_on(registry, to)
    return None if decision is None else refuse_unless_passed(to, decision)


def _rollback(args: argparse.Namespace) -> int:
    from aimass.proto.errors import BadInput
    from aimass.proto.registry.layout import read_reference
    from aimass.server.registry.opening import opened

    wanted = read_reference(args.name)
    if wanted.number:
        raise BadInput(
            "an alias is rolled back, and not a version",
            code="registry.rollback",
            value=args.name,
            limit="NAME or NAME@ALIAS",
            cure=f"aimass model promote {args.name} points the champion at that version.",
        )
    state = opened(args).aliases(args).roll_back(wanted.name, wanted.alias, args.reason)
    emit(args, {"alias": str(wanted), "names": f"{state.model}@{state.version}", "move": state.number, "by": state.by})
    return 0


def _import(args: argparse.Namespace) -> int:
    from aimass.server.registry.folders import import_folder, read_folder
    from aimass.server.registry.opening import opened

    registry = opened(args)
    if args.home is None:
        found = import_folder(registry.store, registry.trust, args.folder)
    else:
        found = registry.publisher(args).publish(read_folder(registry.trust, args.folder)[0])
    emit(args, {"imported": str(found), "digest": found.digest, "signed_by": found.signer})
    return 0


def _gc(args: argparse.Namespace) -> int:
    from aimass.server.registry.collecting import collect
    from aimass.server.registry.opening import opened

    registry = opened(args)
    done = collect(
        registry.store,
        registry.reader,
        args.name,
        time.time,
        args.grace_hours * 3_600,
        args.keep,
        dry_run=args.dry_run,
    )
    emit(args, done)
    return 0
