"""Sets a model's promotion rules: the next numbered document, signed; of two who set them at once one is told."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.model_trust import signed
from aimass.proto.errors import Conflict
from aimass.proto.numbered import Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.layout import rules_prefix
from aimass.proto.registry.rules import ModelRules, PromotionRules
from aimass.proto.registry.trust import Kind

__all__ = ["set_rules"]


def set_rules(
    store: ObjectStore, key: Ed25519PrivateKey, model: str, rules: PromotionRules, *, by: str, now: float
) -> ModelRules:
    """Make `rules` those of `model` from now on; raises `Conflict` as `registry.rules_taken` where somebody was faster.

    Older rules stay: they say by what earlier champions were promoted.
    """
    document = Numbered(store, rules_prefix(model))
    newest = document.newest()
    said = ModelRules(model=model, number=newest.number + 1 if newest else 1, rules=rules, at=now, by=by)
    try:
        document.commit(said.number, signed(key, Kind.RULES, said))
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
