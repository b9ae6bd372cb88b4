"""Sets a model's promotion rules: the next numbered document, signed; of two who set them at once one is told."""

from __future__ import annotations

from aimass.proto.errors import Conflict
from aimass.proto.numbered import Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.layout import rules_prefix
from aimass.proto.registry.reader import read_signed
from aimass.proto.registry.rules import ModelRules, PromotionRules
from aimass.proto.registry.trust import Kind, Trust
from aimass.server.registry.authors import Author

__all__ = ["set_rules"]


def set_rules(
    store: ObjectStore, trust: Trust, author: Author, model: str, rules: PromotionRules, now: float
) -> ModelRules:
    """Make `rules` those of `model` from now on. Older ones stay: they say by what earlier champions were promoted.

    Raises `Conflict` as `registry.rules_taken` where somebody was faster, `Unauthenticated` or `Refused` where the
    trust file does not let the author promote, `WrongState` as `Numbered.following`.
    """
    document = Numbered(store, rules_prefix(model))
    newest = document.newest()
    said = ModelRules(
        model=model,
        number=document.following(newest.number if newest else 0),
        rules=rules,
        at=now,
        by=author.name,
        registry=trust.registry,
    )
    data = author.signed(Kind.RULES, said)
    read_signed(trust, Kind.RULES, data, f"the rules of {model}")
    try:
        document.commit(said.number, data)
    except Conflict as error:
        if not is_taken(error):
            raise
        raise Conflict(
            "somebody else has set rules for this model meanwhile",
            code="registry.rules_taken",
            value=f"{model}, number {said.number}",
            cure="Look at theirs with `aimass model rules show`, and set yours again if they shall hold.",
        ) from error
    return said
