"""The `aimass` command: a table of sub-commands to modules, loaded when they are called and not before."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from aimass.proto.errors import (
    EXIT_CODES,
    AimassError,
    BadInput,
    InternalError,
    NotFound,
    NotInstalled,
    Refused,
    Unavailable,
)

__all__ = ["main"]

_TABLE: Final = {
    "pki": ("aimass.privacy.cli", "the root holder: tokens, roster, revocation", ""),
    "server": ("aimass.server.cli", "the operator: run an aggregation server", "server"),
    "client": ("aimass.client.cli", "the partner: run a daemon beside the data", "client"),
    "run": ("aimass.proto.run_cli", "submit, watch and steer runs", ""),
    "simulate": ("aimass.server.simulate_cli", "a plan with hundreds of partners on one machine", "client,server"),
    "offline": ("aimass.server.offline_cli", "a plan over a data set of one's own, on Spark", "client,server,offline"),
    "plan": ("aimass.proto.plan_cli", "what a private plan promises, costs and destroys", ""),
    "model": ("aimass.proto.model_cli", "models at a server; publish, promote and verify versions", ""),
    "serve": ("aimass.server.serving.serve_cli", "answer requests with models of a registry", "serve"),
    "tune": ("aimass.explain.tune.tune_cli", "search for the settings of a plan, by many runs of it", "explain,client"),
    "explain": ("aimass.explain.cli", "why a model predicts what it does, and where it is wrong", "explain"),
    "task": ("aimass.client.task_cli", "list, digest and write tasks", "client"),
    "up": ("aimass.proto.up_cli", "all services on this machine, started, watched and stopped together", "all"),
    "doctor": ("aimass.proto.doctor_cli", "find out why nothing happens, and what mends it", ""),
    "data": ("aimass.proto.data_cli", "fetch public data sets, and cut data sets into shards", "client,server"),
}
"""Sub-command: module, summary, extra that it needs."""

_EXAMPLE: Final = """example:
  aimass run submit plan.toml --as scientist
  aimass run watch RUN --as scientist

Train one model over the data of many organisations without the data leaving them."""

_EXITS: Final = """exit codes: 0 done; 1 failed or stopped; 2 bad input; 3 refused; 4 not found; 5 unavailable or late;
6 conflict or wrong state; 7 over a limit or out of space; 8 integrity; 9 not installed; 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        return _run(arguments)
    except AimassError as error:
        _report(error, as_json)
        return EXIT_CODES[error.kind]
    except KeyboardInterrupt:
        sys.stderr.write("\naimass: interrupted\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, UnicodeDecodeError) as error:
        named = _named(error)
        _report(named, as_json)
        return EXIT_CODES[named.kind]
    except Exception as error:  # noqa: BLE001  (a person at a terminal gets a sentence, and the way to more)
        _report(
            InternalError(
                f"the command failed with {type(error).__name__}: {error}",
                code="command.failed",
                cure="This is a fault of AIMass. AIMASS_DEBUG=1 shows where; please report it with that text.",
            ),
            as_json,
        )
        return 1


def _named(error: OSError | UnicodeDecodeError) -> AimassError:
    """A file that a command could not use, by its name."""
    if isinstance(error, UnicodeDecodeError):
        return BadInput("a file is not text in UTF-8", code="file.encoding", cure="Give the file that the help names.")
    path = error.filename
    match error:
        case FileNotFoundError():
            return NotFound("there is no such file", code="file.absent", value=path, cure="Check the path.")
        case PermissionError():
            return Refused("the file may not be used", code="file.permission", value=path, cure="Check who owns it.")
        case IsADirectoryError() | NotADirectoryError() | FileExistsError():
            return BadInput("a folder stands where a file belongs, or the other way", code="file.kind", value=path)
        case _:
            return Unavailable(f"the operating system refused: {error.strerror}", code="file.system", value=path)


def _report(error: AimassError, as_json: bool) -> None:
    if os.environ.get("AIMASS_DEBUG"):
        traceback.print_exc()
    if as_json:
        fields = {
            "kind": error.kind,
            "code": error.code,
            "what": error.what,
            "value": error.value,
            "limit": error.limit,
            "cure": error.cure,
        }
        sys.stderr.write(json.dumps({"error": fields}) + "\n")
    else:
        sys.stderr.write(f"aimass: {error.sentence()} [{error.code}]\n")


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="aimass", description=_EXAMPLE, epilog=_EXITS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, summary, _) in _TABLE.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if arguments[:1] == [name]:
            module = _load(name)
            arguments = [name, *getattr(module, "with_verb", list)(arguments[1:])]
            module.add_arguments(command)
    args = parser.parse_args(arguments)
    if args.version:
        from importlib.metadata import version  # noqa: PLC0415  (only for this option)

        sys.stdout.write(f"aimass {version('aimass')}\n")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    with _installed(args.command):
        code: int = args.handler(args)
    return code


def _load(name: str):  # type: ignore[no-untyped-def]
    with _installed(name):
        return importlib.import_module(_TABLE[name][0])


@contextmanager
def _installed(name: str) -> Iterator[None]:
    """Raise `NotInstalled` with the line to type where a command misses a package, when it loads or later."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"`aimass {name}` needs the package {error.name}",
            code="command.extra",
            cure=f"Type: pip install 'aimass[{_TABLE[name][2] or 'all'}]'",
        ) from error


if __name__ == "__main__":
    sys.exit(main())
