"""The seam to whoever moves a registry's aliases: found by entry point, so that an app can promote without a server's
code. Who moves is a person with their own key; nobody signs for another."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Final, Protocol

from aimass.proto.errors import NotInstalled
from aimass.proto.registry.entries import CHAMPION, Alias
from aimass.proto.values import Value

__all__ = ["GROUP", "Judged", "Mover", "find_mover"]

GROUP: Final = "aimass.registry.moving"


class Judged(Value, frozen=True):
    """What the promotion rules say of a candidate: each rule as (name, holds, because). `after` is what they saw."""

    candidate: str
    champion: str
    rules: str
    verdicts: tuple[tuple[str, bool, str], ...]
    after: int

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(holds for _, holds, _ in self.verdicts)


class Mover(Protocol):
    """Moves aliases of one registry as one author."""

    def judged(self, reference: str) -> Judged | None:
        """What the rules of its model say of a version; None where nobody has set any."""
        ...

    def promote(self, reference: str, alias: str, reason: str, *, despite_rules: bool = False) -> Alias:
        """Let an alias name a version; raises `Refused` as `registry.rules` where a rule does not hold."""
        ...

    def roll_back(self, name: str, alias: str = CHAMPION, reason: str = "") -> Alias:
        """Let an alias name what it named before; raises `NotFound` as `registry.no_former`."""
        ...


def find_mover(url: str, trust: Path, home: Path) -> Mover:
    """Who moves aliases with the key of the person whose folder `home` is; raises `NotInstalled`, `NotFound`."""
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda one: one.name):
        found: Mover = entry.load()(url, trust, home)
        return found
    raise NotInstalled(
        "nothing that moves a registry's aliases is installed here",
        code="registry.no_mover",
        cure="Type: pip install 'aimass[server]'",
    )
