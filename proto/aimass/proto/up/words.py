"""What `aimass up` prints: a line for each change, and once where everything is and what to type next."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aimass.proto.console import lines
from aimass.proto.up.services import SCIENTIST, Home, Spec
from aimass.proto.up.state import Service, State

__all__ = ["Teller", "next_lines", "short"]

_SETTLED: Final = frozenset({"ready", "waiting", "failed"})
_TROUBLE: Final = frozenset({"unready", "silent", "resting", "failed"})
"""What is told although somebody asked for quiet."""
_PHASES: Final = {
    "waiting": "waits",
    "starting": "starts",
    "ready": "ready",
    "unready": "not ready",
    "silent": "silent",
    "resting": "died",
    "failed": "GIVEN UP",
    "stopping": "stops",
    "stopped": "stopped",
}


class Teller:
    """Tells a person, or with `as_json` a program, on standard output; one that is gone stops no service."""

    def __init__(
        self, home: Home, specs: Sequence[Spec], now: Callable[[], float], *, as_json: bool, quiet: bool
    ) -> None:
        self._home, self._specs, self._now = home, {spec.name: spec for spec in specs}, now
        self._json, self._quiet, self._settled, self._gone = as_json, quiet, False, False

    def told(self, state: State, service: Service) -> None:
        """A service has changed."""
        spec = self._specs[service.name]
        if self._quiet and service.phase not in _TROUBLE:
            return
        if self._json:
            self._emit(
                event="service",
                service=service.name,
                phase=service.phase,
                why=service.why,
                pid=service.pid or None,
                died=len(service.deaths),
                address=spec.address(self._home.ports),
            )
        else:
            self._line(service.name, _PHASES[service.phase], self._more(spec, service))
        if not self._settled and all(one.phase in _SETTLED for one in state.services):
            self._settled = True
            self._all_up(state)

    def warned(self, text: str) -> None:
        """Something beside the services."""
        if self._json:
            self._emit(event="warning", text=text)
        else:
            self._line("aimass", "warning", text)

    def _more(self, spec: Spec, service: Service) -> str:
        if service.phase == "ready":
            return "; ".join(filter(None, (spec.address(self._home.ports), service.why)))
        if service.phase == "starting" and not service.why:
            return ", ".join((f"process {service.pid}", *service.given)) if service.pid else ""
        if service.phase == "failed":
            return f"{service.why}. Its log: {self._home.log(service.name)}. Mended it? {retry(self._home)}"
        return service.why

    def _line(self, name: str, phase: str, more: str) -> None:
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%H:%M:%SZ")
        self._print(f"{at}  {name:<8} {phase:<9} {more}".rstrip())

    def _all_up(self, state: State) -> None:
        home, names = self._home, [service.name for service in state.services]
        addresses = {name: self._specs[name].address(home.ports) for name in names}
        asked = {name: self._specs[name].ask(short(home.folder)) for name in names}
        following = next_lines(home) if {"server", "data", "serving"} <= set(names) else []
        if self._json:
            ready = [service.name for service in state.services if service.phase == "ready"]
            self._emit(event="up", home=str(home.folder), ready=ready, addresses=addresses, ask=asked, next=following)
            return
        where = [self._where(self._specs[service.name], service) for service in state.services]
        text = ["", f"AIMass runs in {home.folder}. Ctrl-C stops it.", *where]
        if following:
            text += [
                "",
                "In another terminal, from nothing to a model that answers:",
                *(f"  {one}" for one in following),
            ]
        self._print("\n".join((*text, "")))

    def _where(self, spec: Spec, service: Service) -> str:
        """One service's address and the line that asks it how it is, or what it lacks."""
        asked = spec.ask(short(self._home.folder)) if service.phase == "ready" else _PHASES[service.phase]
        return f"  {spec.what:<10} {spec.address(self._home.ports):<28} {asked}".rstrip()

    def _emit(self, **fields: Any) -> None:
        self._print(json.dumps({"at": round(self._now(), 3)} | fields))

    def _print(self, text: str) -> None:
        if self._gone:
            return
        try:
            lines(text.split("\n"))
            sys.stdout.flush()
        except OSError:  # nobody reads any more: the terminal or the pipe is gone, and the services go on
            self._gone = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def short(folder: Path) -> str:
    """A folder as it is typed in a shell from here."""
    here = Path.cwd()
    return shlex.quote(str(folder.relative_to(here) if folder.is_relative_to(here) and folder != here else folder))


def retry(home: Home) -> str:
    """The line that has tried again what was given up."""
    return f"aimass up --retry --home {short(home.folder)}"


def next_lines(home: Home) -> list[str]:
    """From nothing to a model that answers, as lines to type."""
    folder = short(home.folder)
    person = f"{folder}/{SCIENTIST}"
    return [
        f"export AIMASS_HOME={person} AIMASS_REGISTRY={shlex.quote(home.registry)} AIMASS_TRUST={folder}/trust.json",
        "aimass data get heart",
        f"aimass data split heart heart --task heart --split rows:230 --store {shlex.quote(home.datasets)}",
        f"aimass offline submit {folder}/first.toml --data heart --watch",
        f"aimass model publish last --name heart --as {person}",
        f"aimass model promote heart@1 --as {person}",
        f"aimass serve status --url http://127.0.0.1:{home.ports.serving}",
    ]
