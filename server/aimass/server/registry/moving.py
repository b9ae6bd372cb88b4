"""Moves aliases for an app: what `aimass model promote` and `rollback` do, as a value with three functions."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from aimass.privacy.model_trust import FileTrust
from aimass.proto.errors import Refused
from aimass.proto.objects import open_objects
from aimass.proto.registry.entries import CHAMPION, Alias
from aimass.proto.registry.moving import Judged
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.registry.rules import newest_rules
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.authors import read_author
from aimass.server.registry.deciding import Decision, decided
from aimass.server.registry.opening import Opened
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.smoking import ChildSmoker

__all__ = ["AuthorsMover", "decision_on", "mover", "refuse_unless_passed"]


@dataclasses.dataclass(frozen=True)
class AuthorsMover:
    """See `aimass.proto.registry.moving.Mover`."""

    registry: Opened
    home: Path

    def judged(self, reference: str) -> Judged | None:
        """What the rules say; where they ask for it, the smoke inputs are tried in a child process."""
        decision = decision_on(self.registry, self.registry.reader.resolve(reference))
        if decision is None:
            return None
        judgement = decision.judgement
        return Judged(
            candidate=judgement.candidate,
            champion=judgement.champion,
            rules=decision.rules,
            verdicts=tuple((one.rule, one.passed, one.said) for one in judgement.verdicts),
            after=decision.after,
        )

    def promote(self, reference: str, alias: str, reason: str, *, despite_rules: bool = False) -> Alias:
        """The alias's new state. Rules are of the champion alone."""
        to = self.registry.reader.resolve(reference)
        after = None
        if alias == CHAMPION and not despite_rules:
            decision = decision_on(self.registry, to)
            after = None if decision is None else refuse_unless_passed(to, decision)
        return self._aliases().point(alias, to, reason, after)

    def roll_back(self, name: str, alias: str = CHAMPION, reason: str = "") -> Alias:
        """The alias's new state."""
        return self._aliases().roll_back(name, alias, reason)

    def _aliases(self) -> Aliases:
        return Aliases(self.registry.store, self.registry.trust, read_author(self.home), time.time)


def mover(url: str, trust: Path, home: Path) -> AuthorsMover:
    """The entry point."""
    store, believed = open_objects(url), FileTrust(trust)
    return AuthorsMover(Opened(store, believed, RegistryReader(store, believed)), home)


def decision_on(registry: Opened, to: Resolved) -> Decision | None:
    """What the rules of its model say of a version; None where nobody has set any."""
    held = newest_rules(registry.store, registry.trust, to.version.name)
    if held is None:
        return None
    smoked = Smoked(reason="the rules do not ask for it")
    if held.said.rules.smoke:
        with tempfile.TemporaryDirectory() as folder:
            parameters = registry.reader.parameters(to.version, Path(folder))
            smoked = ChildSmoker().tried(to.version.task, parameters, registry.reader.smoke(to.version))
    return decided(registry.store, registry.trust, to, smoked, time.time())


def refuse_unless_passed(to: Resolved, decision: Decision) -> int:
    """The champion's state that the rules have compared with; raises `Refused` where one does not hold."""
    if not decision.judgement.passed:
        raise Refused(
            f"{to} does not fulfil the promotion rules",
            code="registry.rules",
            value=decision.judgement.said,
            limit=decision.rules,
            cure="--check tells every rule; --despite-rules promotes it all the same, and the history says by whom.",
        )
    return decision.after
