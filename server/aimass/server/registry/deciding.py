"""Promotes a version where the rules of its model allow it: the decision is pure, this reads for it and commits it."""

from __future__ import annotations

import dataclasses
from typing import Final

from aimass.proto.errors import Conflict, NotFound
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import CHAMPION
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.registry.rules import newest_rules
from aimass.proto.registry.trust import Trust
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.promotion import Judgement, Smoked, judge

__all__ = ["Decision", "decided", "no_rules", "promoted"]

_TRIES: Final = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say of a candidate, and the state of the alias, by its number, that they compared it with."""

    judgement: Judgement
    rules: str
    after: int
    before: int = 0
    """The last state of the alias that named the candidate, 0 for none: what was taken back stays so."""

    @property
    def passed(self) -> bool:
        """Whether the candidate is to become champion."""
        return self.judgement.passed and not self.before

    @property
    def said(self) -> str:
        """For the alias's history and the log."""
        if self.before:
            return f"it was made champion before, in state {self.before}"
        return f"by {self.rules}: {self.judgement.said}"


def no_rules(name: str) -> NotFound:
    """What who asks the rules of a model is told that has none."""
    return NotFound(
        "nobody has set promotion rules for this model, so nothing is promoted by them",
        code="registry.no_rules",
        value=name,
        cure=f"aimass model rules set {name} rules.toml sets them; `aimass model rules set --help` shows a file.",
    )


def decided(
    store: ObjectStore, trust: Trust, candidate: Resolved, smoked: Smoked, now: float, alias: str = CHAMPION
) -> Decision:
    """The verdicts of the rules that hold now, against the champion of now.

    Raises `NotFound` as `registry.no_rules` where nobody has set any, and what an unverified document raises.
    """
    name = candidate.version.name
    held = newest_rules(store, trust, name)
    if held is None:
        raise no_rules(name)
    reader = RegistryReader(store, trust)
    champion = _champion(reader, Reference(name, alias=alias))
    judgement = judge(held.said.rules, candidate.version, champion.version if champion else None, smoked, now)
    states = (state.number for state in reader.history(name, alias) if state.version_digest == candidate.digest)
    rules = f"{held}, of {held.signer}"
    return Decision(judgement, rules, champion.seen if champion else 0, max(states, default=0))


def promoted(
    aliases: Aliases, store: ObjectStore, trust: Trust, candidate: Resolved, smoked: Smoked, now: float
) -> Decision:
    """Make the candidate champion where every rule holds; decided anew where somebody promoted another meanwhile.

    Raises as `decided` and `Aliases.point` do, `Conflict` where others are faster again and again.
    """
    for _ in range(_TRIES - 1):
        try:
            return _once(aliases, decided(store, trust, candidate, smoked, now), candidate)
        except Conflict as error:
            if error.code != "registry.moved":
                raise
    return _once(aliases, decided(store, trust, candidate, smoked, now), candidate)


def _once(aliases: Aliases, decision: Decision, candidate: Resolved) -> Decision:
    if decision.passed:
        aliases.point(CHAMPION, candidate, f"promoted {decision.said}", decision.after)
    return decision


def _champion(reader: RegistryReader, reference: Reference) -> Resolved | None:
    try:
        return reader.resolve(reference)
    except NotFound as error:
        if error.code != "registry.no_alias":
            raise
        return None
