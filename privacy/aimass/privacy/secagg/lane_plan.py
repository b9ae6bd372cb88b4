"""Which lane of a secure sum holds what of a step's contributions, so wide that no sum of the members overflows.

All parties compute the same plan from the step: its digest and sizes stand in the round context.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from aimass.privacy.dp.adaptive import Adaptive
from aimass.privacy.dp.noise_plan import NoisePlan
from aimass.privacy.secagg.context import MAX_MEMBERS, NO_DIGEST, LaneKind, LaneSpec, RoundContext, layout_digest
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.quantise import CHECK_LANES, largest_of, limbs_needed
from aimass.proto.elements import FLOATS, INTEGERS

__all__ = ["Groups", "LanePlan", "Quantisation", "lane_bits", "offset_of", "plan_lanes"]

Groups = Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
"""Element type and shape by group and tensor, as `check_contribution` expects them."""

_EXACT: Final = 53
"""Whole numbers to 2^53 are float64."""
_BOUNDS: Final = (1e-100, 1e100)


@dataclasses.dataclass(frozen=True, slots=True)
class Quantisation:
    """How numbers of a step become lanes; a part of the plan that all parties read."""

    members: int
    """Partners that are asked: no attempt has more."""
    bits: int
    """q: bits of an update's element with its sign, and of every limb."""
    clip: float
    """The largest |x w / w_max| of an update's element x; what lies beyond is clipped."""
    max_weight: int
    """w_max: a partner with a larger weight counts with this one."""
    real_bound: float
    """The largest |w x| of any other real, and |total| and weight of a metric; what lies beyond is refused."""
    real_bits: int = 52
    """Bits of such a real."""

    def check(self) -> None:
        """Raise `FaultError` E_PLAN for a value out of range, and E_OVERFLOW where weights' sum is no exact float64."""
        least, most = _BOUNDS
        for name, value, low, high in (
            ("members", self.members, 1, MAX_MEMBERS),
            ("bits", self.bits, 2, 32),
            ("clip", self.clip, least, most),
            ("max_weight", self.max_weight, 1, 1 << _EXACT),
            ("real_bound", self.real_bound, least, most),
            ("real_bits", self.real_bits, 2, _EXACT),
        ):
            if not low <= value <= high:
                raise fail(Code.PLAN, f"the quantisation's {name} is out of range", value, f"{low} to {high}")
        if self.members * self.max_weight > 1 << _EXACT:
            raise fail(
                Code.OVERFLOW, "a sum of weights would not be exact", self.members * self.max_weight, 1 << _EXACT
            )

    @property
    def real_scale(self) -> float:
        """Steps to one: the power of two for which real_bound fits real_bits with a sign."""
        exponent = self.real_bits - 1 - math.frexp(self.real_bound)[1]
        fits = math.ldexp(self.real_bound, exponent) <= (1 << self.real_bits - 1) - 1
        return math.ldexp(1.0, exponent if fits else exponent - 1)


@dataclasses.dataclass(frozen=True)
class LanePlan:
    """Which lane holds what.

    `specs` are by offset: tensors `GROUP/TENSOR`, then `weight/GROUP`, then `metric/NAME` (total and
    weight), each in the order of names, and the check lanes at last; `digest` is their layout digest. No sum of
    `quantisation.members` inputs overflows the `bits` of a lane: signed lanes hold `largest` at most, limbs q bits.

    With `noise` all tensors are one row of lanes, `noised`, in the same order; they hold what `NoisePlan` says. With
    `adaptive` a lane `vote` follows them, whether the update was within the clip.
    """

    specs: tuple[LaneSpec, ...]
    bits: int
    count: int
    """Lanes without the check lanes."""
    digest: bytes
    scale: float
    """Steps to one of an update's element."""
    largest: int
    """Q: the largest |q| of an update's lane."""
    quantisation: Quantisation
    groups: Groups
    metrics: tuple[str, ...]
    noise: NoisePlan | None = None
    adaptive: Adaptive | None = None

    @property
    def clip(self) -> float:
        """Of the update: of each element, or, with noise, of its L2 norm."""
        return self.noise.setting.clip if self.noise else self.quantisation.clip

    @property
    def noise_digest(self) -> bytes:
        """The context's `dp_digest`."""
        if self.noise and self.adaptive:
            return digest(Name.NOISE, self.noise.digest, self.adaptive.data)
        return self.noise.digest if self.noise else NO_DIGEST

    @property
    def lanes(self) -> int:
        """D: length of an input with its check lanes."""
        return self.count + CHECK_LANES

    @cached_property
    def by_name(self) -> Mapping[str, LaneSpec]:
        """Specs by name."""
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def places(self) -> Mapping[str, slice]:
        """With noise: where each tensor's elements stand among those of all, by `GROUP/TENSOR`."""
        found, start = {}, 0
        for name, _, shape in _tensors(self.groups):
            found[name] = slice(start, start + math.prod(shape))
            start += math.prod(shape)
        return found

    def check_members(self, members: int) -> None:
        """Raise `FaultError` E_OVERFLOW for none, or for more than limbs and signed lanes have room for."""
        if not 1 <= members <= self.quantisation.members:
            limit = f"1 to {self.quantisation.members}"
            raise fail(Code.OVERFLOW, "the lanes are not made for a sum of so many members", members, limit)

    def check_context(self, context: RoundContext) -> None:
        """Raise `FaultError` where a round's sizes are not these: E_PLAN, and E_OVERFLOW for too many members.

        With noise E_POLICY too, for a round of which a sum may hold less of it than was counted on.

        The layout's digest says nothing of the width: under another one, sums of signed lanes would be other numbers.
        """
        update = self.clip, self.scale
        for name, found, wanted in (
            ("lanes", context.lanes, self.lanes),
            ("bits", context.bits, self.bits),
            ("layout", context.layout_digest.hex(), self.digest.hex()),
            ("clip and scale", (context.clip, context.scale), update),
            ("noise", context.dp_digest.hex(), self.noise_digest.hex()),
        ):
            if found != wanted:
                raise fail(Code.PLAN, f"the round's {name} are not what this partner computed", found, wanted)
        self.check_members(len(context.ids))
        self.check_noise(context)

    def check_noise(self, context: RoundContext) -> None:
        """Raise `FaultError` E_POLICY for a round of which a sum may hold less noise than was counted on."""
        if self.noise:
            self.noise.setting.circle.check_round(len(context.ids), context.gamma_ppm, context.min_cohort)


def lane_bits(bits: int, members: int) -> int:
    """b = q + ceil(log2 members): a lane that holds the members' sum of numbers of q bits."""
    return bits + (members - 1).bit_length()


def plan_lanes(
    groups: Groups,
    metrics: Sequence[str],
    quantisation: Quantisation,
    *,
    updates: bool,
    exact: Collection[str] = (),
    noise: NoisePlan | None = None,
    adaptive: Adaptive | None = None,
) -> LanePlan:
    """The lanes of a step's contributions, the same whatever the order of names.

    With `updates` floating tensors are clipped and take one lane an element; integers, tensors of the groups `exact`,
    and every tensor of a step that trains nothing, are exact sums that must not be clipped. b = q + ceil(log2 members)
    holds the members' sum of q-bit limbs, and so of signed values to Q. Raises `FaultError` E_PLAN, or E_OVERFLOW, for
    what cannot be planned.

    With `noise`, which is for updates of floating tensors alone, every weight is one, and b and the members are the
    noise plan's. Metrics are summed exactly: whoever plans them decides that they may be.
    """
    quantisation.check()
    ordered = {group: dict(sorted(members.items())) for group, members in sorted(groups.items())}
    labels = tuple(sorted(metrics))
    bits, largest = lane_bits(quantisation.bits, quantisation.members), largest_of(quantisation.bits)
    _check_noise(ordered, quantisation, noise, bits, updates)
    _check_adaptive(noise, adaptive, bits)
    update_scale = noise.scale if noise else largest / quantisation.clip
    specs: list[LaneSpec] = []
    offset = 0
    for name, kind, shape, clip, scale in _entries(
        ordered, labels, quantisation, update_scale, ordered.keys() - set(exact) if updates else (), noise, adaptive
    ):
        limbs = 1
        if kind not in (LaneKind.UPDATE, LaneKind.NOISED):
            most = quantisation.max_weight if kind is LaneKind.WEIGHT else 2 * offset_of(clip, scale)
            limbs = limbs_needed(most, bits, quantisation.members)
        specs.append(LaneSpec(name, kind, shape, offset, limbs, clip, scale))
        offset += specs[-1].count
    specs.append(LaneSpec("check", LaneKind.CHECK, (CHECK_LANES,), offset, 1, 0.0, 1.0))
    if len({spec.name for spec in specs}) < len(specs):
        raise fail(Code.PLAN, "two kinds of a step's numbers have one name")
    return LanePlan(
        specs=tuple(specs),
        bits=bits,
        count=offset,
        digest=layout_digest(specs),
        scale=update_scale,
        largest=largest,
        quantisation=quantisation,
        groups=ordered,
        metrics=labels,
        noise=noise,
        adaptive=adaptive,
    )


def _tensors(groups: Groups) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, element type and shape of every tensor, in order."""
    for group, members in groups.items():
        for name, (dtype, shape) in members.items():
            yield f"{group}/{name}", dtype, shape


def _check_noise(groups: Groups, quantisation: Quantisation, noise: NoisePlan | None, bits: int, updates: bool) -> None:
    if noise is None:
        return
    if odd := [name for name, dtype, _ in _tensors(groups) if dtype not in FLOATS]:
        raise fail(Code.PLAN, "noise is for floating tensors alone", ", ".join(odd[:5]))
    count = sum(math.prod(shape) for _, _, shape in _tensors(groups))
    found = updates, quantisation.max_weight, quantisation.members, bits, count
    wanted = True, 1, noise.setting.circle.members, noise.setting.bits, noise.setting.count
    if found != wanted:
        raise fail(
            Code.PLAN, "the noise was planned for other updates, weights, members, bits or elements", found, wanted
        )


def _check_adaptive(noise: NoisePlan | None, adaptive: Adaptive | None, bits: int) -> None:
    if adaptive is None:
        return
    if noise is None or noise.setting.circle != adaptive.circle:
        raise fail(Code.PLAN, "votes on the clip go with distributed noise of the same circle")
    if adaptive.largest >= 1 << bits - 1:
        raise fail(Code.PLAN, "lanes are too narrow for the votes on the clip", adaptive.largest, 1 << bits - 1)


def _entries(
    groups: Groups,
    metrics: Sequence[str],
    quantisation: Quantisation,
    scale: float,
    updates: Collection[str],
    noise: NoisePlan | None,
    adaptive: Adaptive | None,
) -> Iterator[tuple[str, LaneKind, tuple[int, ...], float, float]]:
    """Name, kind, shape, clip and scale of everything, in order; `updates` are the groups whose floats are clipped."""
    real = quantisation.real_bound, quantisation.real_scale
    if noise:
        yield "noised", LaneKind.NOISED, (noise.setting.size,), noise.setting.clip, scale
    if adaptive:
        yield "vote", LaneKind.NOISED, (1,), 0.5, float(adaptive.steps)
    for name, dtype, shape in () if noise else _tensors(groups):
        if dtype not in (*FLOATS, *INTEGERS):
            raise fail(Code.PLAN, f"{name} holds no numbers", dtype, ", ".join((*FLOATS, *INTEGERS)))
        if name.partition("/")[0] in updates and dtype in FLOATS:
            yield name, LaneKind.UPDATE, shape, quantisation.clip, scale
        else:
            yield name, LaneKind.COUNT, shape, *real
    for group in groups:
        yield f"weight/{group}", LaneKind.WEIGHT, (), float(quantisation.max_weight), 1.0
    for name in metrics:
        yield f"metric/{name}", LaneKind.METRIC, (2,), *real


def offset_of(clip: float, scale: float) -> int:
    """What makes a real of these lanes non-negative: its steps are at most this, and with it twice this."""
    return math.ceil(clip * scale)
