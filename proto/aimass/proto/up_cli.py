"""`aimass up`: the services of one machine, started, watched and stopped together."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, plain, say

if TYPE_CHECKING:
    from aimass.proto.up.record import ServiceView, UpView
    from aimass.proto.up.services import Home, Spec
    from aimass.proto.up.settings import Ports

__all__ = ["add_arguments"]

_EXAMPLE: Final = """examples:
  aimass up
  aimass up --home /srv/aimass --only server,data
  aimass up --port serving=9080
  aimass up --status
  aimass up --retry

Starts the training server, the data set service, model serving and the explainer on this machine, on its loopback. The
first start makes everything that they need in the home folder: root, keys, certificates, an operator and a scientist.
One that dies is started again; Ctrl-C or SIGTERM stops all, a second time at once.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aimass up`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _EXAMPLE
    parser.add_argument("--home", type=Path, default=Path("aimass-home"), help="folder for all of it (./aimass-home)")
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help="these services alone: server, data, serving, app"
    )
    parser.add_argument("--port", action="append", default=[], metavar="NAME=PORT", help="change a port of the home")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--status", action="store_true", help="show the services of the one that runs, and end")
    instead.add_argument("--retry", action="store_true", help="have it start again what it has given up, and end")
    common(parser, _up)


def _up(args: argparse.Namespace) -> int:
    folder = args.home.expanduser().resolve()
    if args.status:
        return _status(args, folder)
    if args.retry:
        return _retry(args, folder)
    return _run(args, folder)


def _run(args: argparse.Namespace, folder: Path) -> int:
    from aimass.proto.clock import SystemClock
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import Unavailable
    from aimass.proto.up.founding import check_folder, run_commands
    from aimass.proto.up.record import alone
    from aimass.proto.up.renewal import renew
    from aimass.proto.up.services import named
    from aimass.proto.up.settings import said
    from aimass.proto.up.supervisor import Supervisor
    from aimass.proto.up.words import Teller

    specs, ports = named(args.only), said(args.port)
    check_folder(folder)
    make_folder(folder)
    folder.chmod(0o700)  # the root's keys are in it
    with alone(folder):
        home = _home(args, folder, specs, ports)
        clock = SystemClock()
        teller = Teller(home, specs, clock.now, as_json=args.json, quiet=args.quiet)
        if renew(folder, clock.now(), run_commands, teller.warned):
            say(args, f"certificates that were to end have been renewed by {folder}/root")
        state = asyncio.run(Supervisor(home, specs, teller, clock).run())
    if not state.stopping:
        raise Unavailable(
            "no service is left that runs", code="up.given_up", value=", ".join(one.name for one in state.services),
            cure=f"What became of each stands above; their logs are in {folder}/logs.",
        )  # fmt: skip
    say(args, "all services have stopped")
    return 0


def _home(args: argparse.Namespace, folder: Path, specs: Iterable[Spec], wanted: Mapping[str, int]) -> Home:
    """The home, made where there is none, its ports free; raises a named error where it cannot be started."""
    from aimass.proto.durable import make_folder
    from aimass.proto.up.founding import adopt, found, is_founded, run_commands
    from aimass.proto.up.ports import choose
    from aimass.proto.up.settings import changed, chosen

    _end_left(args, folder)
    if not is_founded(folder):
        say(args, f"first start: root, keys, certificates and settings are made in {folder}")
        found(folder, lambda: chosen(choose), run_commands)
    home = adopt(folder, lambda ports: changed(ports, wanted))
    make_folder(folder / "logs")
    _check_ports(specs, home.ports)
    return home


def _end_left(args: argparse.Namespace, folder: Path) -> None:
    """What an `aimass up` that was killed has left: its services end by themselves, and are waited for."""
    from aimass.proto.up.machine import STOP_S
    from aimass.proto.up.processes import end_left
    from aimass.proto.up.record import read_record

    view = read_record(folder)
    left = end_left(((one.pid, one.identity) for one in view.services), STOP_S) if view is not None else []
    if left:
        say(args, f"services of a start before were still there and have ended: process {', '.join(map(str, left))}")


def _check_ports(specs: Iterable[Spec], ports: Ports) -> None:
    from aimass.proto.errors import Conflict
    from aimass.proto.up.ports import holder, is_free
    from aimass.proto.up.services import ports_of

    taken = [(name, port) for name, port in ports_of(specs, ports) if not is_free(port)]
    if taken:
        raise Conflict(
            "somebody else listens at a port of this home", code="up.port_taken",
            value="; ".join(f"{port} ({name}): {holder(port) or 'nobody to be seen'}" for name, port in taken),
            cure=f"Stop that process, or take another port: aimass up --port {taken[0][0]}=PORT",
        )  # fmt: skip


def _status(args: argparse.Namespace, folder: Path) -> int:
    from aimass.proto.up.record import running_record

    view = running_record(folder)
    answers = asyncio.run(_asked(folder, view))
    if args.json:
        shown = plain(view)
        for service, answer in zip(shown["services"], answers, strict=True):
            service["answers"] = answer
        emit(args, shown)
    else:
        emit(args, {"home": str(folder), "process": view.pid, "since": view.since})
        emit(args, [_row(one, answer) for one, answer in zip(view.services, answers, strict=True)])
        for one in view.services:
            if one.why:
                emit(args, f"{one.name}: {one.why}")
    return 0 if all(one.phase in {"ready", "waiting"} for one in view.services) else 1


async def _asked(folder: Path, view: UpView) -> list[str]:
    """What each service answers now, whatever the record says of it."""
    from aimass.proto.up.probe import probe
    from aimass.proto.up.services import SERVICES
    from aimass.proto.up.settings import read_up

    ports = read_up(folder).ports
    health = {spec.name: spec.health(ports) for spec in SERVICES}
    found = await asyncio.gather(*(probe(*health[one.name]) for one in view.services))
    return ["nothing" if reasons is None else "; ".join(reasons) or "ready" for reasons in found]


def _row(one: ServiceView, answer: str) -> dict[str, Any]:
    return {
        "service": one.name,
        "phase": one.phase,
        "since": one.since,
        "answers": answer,
        "process": one.pid or None,
        "died": one.died,
        "address": one.address,
    }


def _retry(args: argparse.Namespace, folder: Path) -> int:
    from aimass.proto.up.record import running_record

    view = running_record(folder)
    failed = [one.name for one in view.services if one.phase == "failed"]
    os.kill(view.pid, signal.SIGUSR1)
    emit(args, {"home": str(folder), "tried_again": failed, "at": time.time()})
    return 0
