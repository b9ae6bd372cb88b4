"""Contributions and the lanes that they must become, computed in Python's own integers and fractions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from aimass.privacy.secagg.lanes import Groups, LanePlan, Quantisation, decode, encode, plan_lanes, to_bytes
from aimass.privacy.secagg.masks import Lanes, lane_type, stream
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.elements import as_float64, from_float64

TRAINED: Groups = {
    "update": {
        "bias": ("F32", (3,)),
        "counter": ("I64", ()),
        "half": ("F16", (2, 2)),
        "scalar": ("F64", ()),
        "brain": ("BF16", (5,)),
        "none": ("F32", (0, 4)),
        "small": ("I8", (2,)),
    },
    "control": {"a": ("F64", (2, 3))},
}
COUNTED: Groups = {
    "statistics": {"count": ("F64", (3,)), "mean": ("F32", (2,)), "rows": ("I64", (2, 1)), "byte": ("U8", (1,))}
}
METRICS = ("loss", "accuracy", "auc")


PLAIN = Quantisation(members=5, bits=20, clip=0.5, max_weight=1000, real_bound=1e9)
"""Of five partners."""


def given_once(plan: LanePlan, **tensors: Any) -> Contribution:
    """A contribution to the one group of a plan, with weight 1."""
    (group,) = plan.groups
    return Contribution({group: Group(1.0, {name: np.array(array) for name, array in tensors.items()})}, {}, {})


def one(dtype: str = "F64", shape: tuple[int, ...] = (2,)) -> Groups:
    return {"g": {"x": (dtype, shape)}}


def keys(*seed: int) -> Callable[[], bytes]:
    """A fresh key at each call, the same ones for the same seed."""
    count = iter(range(1 << 16))
    return lambda: bytes((*seed, 0, *next(count).to_bytes(2, "big"))).rjust(16, b"\0")


def drawn(
    random: np.random.Generator,
    groups: Groups,
    quantisation: Quantisation,
    spread: float,
) -> Contribution:
    """A contribution within the bounds; floats of updates reach `spread` times the clip."""
    made = {}
    for group, members in groups.items():
        weight = int(random.integers(1, quantisation.max_weight, endpoint=True))
        tensors = {}
        for name, (dtype, shape) in members.items():
            if dtype in ("I64", "I8", "U8"):
                tensors[name] = from_float64(np.array(random.integers(0, 100, shape)), dtype)
            else:
                tensors[name] = from_float64(np.array(random.uniform(-1, 1, shape)) * quantisation.clip * spread, dtype)
        made[group] = Group(float(weight), tensors)
    metrics = {
        name: Metric(float(random.uniform(-1, 1)), float(random.uniform(1, 50)))
        for name in METRICS
        if random.integers(3)
    }
    return Contribution(made, metrics, {"kept_apart": 1.0})


def terms(contribution: Contribution, group: str, tensor: str, most: int) -> list[Fraction]:
    """w x by element, exactly, w being the weight that counts."""
    held = contribution.groups[group]
    weight = min(int(held.weight), most)
    return [weight * Fraction(x) for x in as_float64(held.tensors[tensor]).reshape(-1).tolist()]


def plain_lanes(
    plan: LanePlan, contribution: Contribution, quantisation: Quantisation, key: Callable[[], bytes]
) -> list[int]:
    """`encode`, a number after the other."""
    return list(_plain(plan, contribution, quantisation, key))


def _plain(
    plan: LanePlan, contribution: Contribution, quantisation: Quantisation, key: Callable[[], bytes]
) -> Iterator[int]:
    q, most = quantisation.bits, (1 << quantisation.bits - 1) - 1
    modulus = 1 << q + math.ceil(math.log2(quantisation.members))
    for spec in plan.specs:
        head, _, tail = spec.name.partition("/")
        if spec.name == "check":
            return
        if head == "weight":
            yield from _limbs(min(int(contribution.groups[tail].weight), quantisation.max_weight), q, spec.limbs)
        elif head == "metric":
            metric = contribution.metrics.get(tail, Metric(0.0, 0.0))
            for value in (metric.total, metric.weight):
                yield from _limbs(_steps(value, quantisation), q, spec.limbs)
        elif spec.kind == 0:
            weight = min(contribution.groups[head].weight, quantisation.max_weight)
            factor = most / quantisation.clip * (weight / quantisation.max_weight)
            values = as_float64(contribution.groups[head].tensors[tail]).reshape(-1).tolist()
            draws = stream(key(), len(values), np.dtype("<u4")).tolist()
            for value, draw in zip(values, draws, strict=True):
                scaled = Fraction(max(-float(most), min(float(most), value * factor)))
                whole = math.floor(scaled)
                yield (whole + (draw < (scaled - whole) * 2**32)) % modulus
        else:
            weight = min(contribution.groups[head].weight, quantisation.max_weight)
            for value in as_float64(contribution.groups[head].tensors[tail]).reshape(-1).tolist():
                yield from _limbs(_steps(weight * value, quantisation), q, spec.limbs)


@functools.cache
def step_of(quantisation: Quantisation) -> Fraction:
    """The largest power of two, of which real_bound is no more than 2^(real_bits - 1) - 1: one step is its inverse."""
    scale = Fraction(1, 1 << 400)
    while Fraction(quantisation.real_bound) * scale * 2 <= (1 << quantisation.real_bits - 1) - 1:
        scale *= 2
    return 1 / scale


def _steps(value: float, quantisation: Quantisation) -> int:
    step = step_of(quantisation)
    return round(Fraction(value) / step) + math.ceil(Fraction(quantisation.real_bound) / step)


def _limbs(value: int, bits: int, count: int) -> list[int]:
    found = []
    for _ in range(count):
        value, limb = divmod(value, 1 << bits)
        found.append(limb)
    assert value == 0
    return found


def summed(plan: LanePlan, inputs: Sequence[Lanes]) -> Lanes:
    """The sum modulo 2^b, in Python's integers."""
    totals = [sum(column) % (1 << plan.bits) for column in zip(*(lanes.tolist() for lanes in inputs), strict=True)]
    return np.array(totals, lane_type(plan.bits))


def lanes_vector() -> dict[str, Any]:
    """A small plan: its specs, digest and sizes, and the lanes of a contribution, its third group's weight clamped."""
    quantisation = Quantisation(members=5, bits=20, clip=0.5, max_weight=3_000_000, real_bound=1e6, real_bits=52)
    groups: Groups = {
        "update": {"layer.weight": ("F32", (2, 3)), "layer.bias": ("BF16", (2,)), "steps": ("I64", ())},
        "heavy": {"x": ("F64", (1,))},
    }
    contribution = Contribution(
        {
            "update": Group(
                1_234_567.0,
                {
                    "layer.weight": np.array([[0.5, -0.5, 0.1], [-0.25, 3.0, -3.0]], np.float32),
                    "layer.bias": from_float64(np.array([0.25, -1.0]), "BF16"),
                    "steps": np.array(0, np.int64),
                },
            ),
            "heavy": Group(1e9, {"x": np.array([0.125])}),
        },
        {"loss": Metric(-12.375, 40.0), "accuracy": Metric(31.0, 40.0)},
        {},
    )
    plan = plan_lanes(groups, ["loss", "accuracy", "auc"], quantisation, updates=True)
    key = [bytes([number]) * 16 for number in (1, 2, 3)]
    lanes = encode(plan, contribution, iter(key).__next__)
    counted = plan_lanes(
        {"statistics": {"sum": ("F64", (2,))}}, [], Quantisation(3, 16, 1.0, 100, 1000.0, 40), updates=False
    )
    statistics = Contribution({"statistics": Group(7.0, {"sum": np.array([-142.0, 3.3])})}, {}, {})
    return {
        "update": {
            "members": 5, "bits": 20, "clip": 0.5, "max_weight": 3_000_000, "real_bound": 1e6, "real_bits": 52,
            "keys": [k.hex() for k in key], **_described(plan, lanes),
        },
        "statistics": {
            "members": 3, "bits": 16, "clip": 1.0, "max_weight": 100, "real_bound": 1000.0, "real_bits": 40,
            **_described(counted, encode(counted, statistics, iter(key).__next__)),
        },
    }  # fmt: skip


def _described(plan: LanePlan, lanes: Lanes) -> dict[str, Any]:
    sums = decode(plan, summed(plan, [lanes] * 3), 3)
    return {
        "specs": [[s.name, s.kind.name.lower(), list(s.shape), s.offset, s.limbs, s.clip, s.scale] for s in plan.specs],
        "layout_digest": plan.digest.hex(),
        "b": plan.bits,
        "scale": plan.scale,
        "data_lanes": plan.count,
        "lanes": lanes.tolist(),
        "packed": to_bytes(plan, lanes).hex(),
        "sum_of_three": {
            "tensors": {
                f"{group}/{name}": sums.total(group, name).reshape(-1).tolist()
                for group in plan.groups
                for name in sums.tensors(group)
            },
            "weights": {group: sums.weight(group) for group in plan.groups},
            "metrics": {name: [metric.total, metric.weight] for name, metric in sums.metrics().items()},
        },
    }
