"""What a version has to fulfil before an alias may name it: promotion rules, as a person writes and signs them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import msgspec

from aimass.proto.errors import IntegrityError
from aimass.proto.names import Name
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import Line, Number, RegistryName
from aimass.proto.registry.layout import rules_prefix
from aimass.proto.registry.reader import check_registry, read_signed
from aimass.proto.registry.trust import Kind, Trust
from aimass.proto.values import Value, decode_canonical_json, decode_toml

__all__ = ["HeldRules", "MetricRule", "ModelRules", "PromotionRules", "newest_rules", "read_rules"]

Days = Annotated[float, msgspec.Meta(gt=0)]


class MetricRule(Value, frozen=True):
    """A metric that decides: which way is `better`, and by how much more than `by` it has to be.

    With `compare` as "interval" the whole 95 % interval of the difference has to lie beyond `by`; with "mean" the two
    means are compared, as has to be where nobody knows how the metric spreads. A negative `by` asks for no worse than
    so much. `bound` is an absolute limit, which holds for the first version too: the mean has to reach it.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    better: Literal["higher", "lower"]
    by: float = 0.0
    compare: Literal["interval", "mean"] = "interval"
    bound: float | None = None


class PromotionRules(Value, frozen=True):
    """The file that a person writes; what it does not name is not asked for, but for `smoke` and `same_schema`.

    `most_epsilon` and `most_delta` ask for a stated privacy within them, in `unit` where one is named. `least_members`
    asks for so many contributors in every round. `least_rows` asks that the metrics which the rules name are of so many
    held-out rows: without it a handful decides where means are compared. `same_held_out` asks for figures on the very
    rows that the champion's are of, by their digest. Ages are of the version, since it was published.
    """

    metrics: Annotated[tuple[MetricRule, ...], msgspec.Meta(max_length=100)] = ()
    smoke: bool = True
    same_schema: bool = True
    same_held_out: bool = False
    most_epsilon: Annotated[float, msgspec.Meta(ge=0)] | None = None
    most_delta: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    unit: Line = ""
    most_age_days: Days | None = None
    least_members: Annotated[int, msgspec.Meta(ge=0)] = 0
    least_rows: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError("a metric has two rules")


class ModelRules(Value, frozen=True):
    """The signed document: the rules of `model` from this `number` on, in this `registry`. The highest wins."""

    model: Name
    number: Number
    rules: PromotionRules
    at: float
    by: Line
    registry: RegistryName = ""
    format: Literal[1] = 1


@dataclasses.dataclass(frozen=True, slots=True)
class HeldRules:
    """Verified rules with the name of who signed them."""

    said: ModelRules
    signer: str

    def __str__(self) -> str:
        return f"rules {self.said.number} of {self.said.model}"


def read_rules(text: str, what: str) -> PromotionRules:
    """Decode a person's TOML; raises `BadInput` with the path of the fault."""
    return decode_toml(PromotionRules, text, what)


def newest_rules(store: ObjectStore, trust: Trust, name: str) -> HeldRules | None:
    """The rules that hold for a model now; None where nobody has set any. An unverified document raises."""
    document = Numbered(store, rules_prefix(name))
    newest = document.newest()
    if newest is None:
        return None
    key = document.key(newest.number)
    verified = read_signed(trust, Kind.RULES, newest.data, key)
    said = decode_canonical_json(ModelRules, verified.data, key)
    if (said.model, said.number) != (name, newest.number):
        raise IntegrityError(
            "signed rules are not those that their place says",
            code="registry.elsewhere",
            value=f"{said.model} {said.number} at {key}",
            limit=f"{name} {newest.number}",
            cure="Somebody copied or renamed them: nothing is promoted by them. Set the rules again.",
        )
    check_registry(trust, said.registry, key)
    return HeldRules(said, verified.signer)
