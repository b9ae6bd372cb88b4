"""How a contribution of a step becomes lanes of a secure sum, and what drivers read of the lanes' sum.

An element of a trained update is one signed lane, rounded without bias. Every other number is a fixed-point integer in
limbs: a weight as it is, any real with an offset that makes it non-negative and that the sum loses again. What is in
the lanes is w x, so a sum of lanes stands for the weighted sum.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from aimass.privacy.dp import distributed
from aimass.privacy.dp.adaptive import share_within, vote
from aimass.privacy.dp.clipping import l2_norm
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.secagg.client_state import Room
from aimass.privacy.secagg.context import LaneKind, LaneSpec
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.labels import MASK_KEY_BYTES
from aimass.privacy.secagg.lane_plan import Groups, LanePlan, Quantisation, offset_of, plan_lanes
from aimass.privacy.secagg.masks import Lanes, lane_type
from aimass.privacy.secagg.packing import pack_into, packed_bytes, unpack
from aimass.privacy.secagg.quantise import (
    centred,
    from_limbs,
    quantise_block,
    rounding_draws,
    to_lanes,
    to_limbs,
)
from aimass.proto.contribution import Contribution, Metric
from aimass.proto.elements import as_float64, dtype_name
from aimass.proto.tensors import Array

__all__ = [
    "Groups",
    "LanePlan",
    "LaneSums",
    "Quantisation",
    "clamped",
    "clipped",
    "decode",
    "encode",
    "from_bytes",
    "plan_lanes",
    "to_bytes",
]

_BLOCK: Final = 1 << 15
"""Elements at a time: what one needs in float64 and int64 stays in a cache."""
_LOW_BITS: Final = 16
"""A real's lowest limbs of at least so many bits are summed apart from the others: see `_reals`."""


# ------------------------------------------------------------------- a contribution to lanes


def clamped(plan: LanePlan, contribution: Contribution) -> dict[str, float]:
    """The weight of each group that counts with w_max instead, for the log: of the partner's own, it never leaves."""
    most = plan.quantisation.max_weight
    return {name: group.weight for name, group in contribution.groups.items() if group.weight > most}


def clipped(plan: LanePlan, contribution: Contribution) -> int:
    """How many elements of updates lie beyond what a lane holds, and are clipped: for the log, as `clamped` is.

    Raises as `encode` does, but for numbers that are not finite.
    """
    _check_form(plan, contribution)
    count = 0
    for spec in plan.specs:
        if spec.kind is LaneKind.UPDATE:
            group, _, name = spec.name.partition("/")
            held = contribution.groups[group]
            most = plan.largest / _factor(plan, _weight(plan, group, held.weight))
            for _, values in _blocks(held.tensors[name].reshape(-1)):
                count += int(np.count_nonzero(np.abs(values) > most))
    return count


def encode(
    plan: LanePlan,
    contribution: Contribution,
    key: Callable[[], bytes],
    rotation: bytes = b"",
    room: Room = bytearray,
) -> Lanes:
    """The `plan.count` lanes modulo 2^b of w x, weights and metrics; figures take another way and are left out.

    w = min(weight, w_max), a whole number from 1. `key` gives a fresh secret of 16 bytes for the rounding of each
    tensor: encode once and keep the lanes, since what two roundings of one contribution differ in tells of it. Memory
    is that of the lanes, which `room` gives, and of some blocks.

    Where the plan has noise, all tensors are one noised vector and `rotation` is the round's key (`dp.rotation`).
    Memory is then that of some vectors of 8 bytes an element, and E_ROUNDING is raised as well.

    Raises `FaultError` E_NONFINITE; E_OVERFLOW for a real beyond its bound; E_ENCODING for other groups, tensors or
    metrics than the plan's, or a weight that does not count. A metric of the plan may be missing: it adds nothing. No
    fault names a value: it would be the partner's data.
    """
    _check_form(plan, contribution)
    kind = lane_type(plan.bits)
    lanes: Lanes = np.frombuffer(room(plan.count * kind.itemsize), kind)
    if plan.noise is not None:
        _put_noised(plan, contribution, key, rotation, lanes)
    for group, members in plan.groups.items():
        weight = _weight(plan, group, contribution.groups[group].weight)
        for name in members if plan.noise is None else ():
            spec = plan.by_name[f"{group}/{name}"]
            flat = contribution.groups[group].tensors[name].reshape(-1)
            if spec.kind is LaneKind.UPDATE:
                _put_update(plan, spec, flat, weight, key(), _of(spec, lanes))
            else:
                _put_reals(plan, spec, flat, weight, _of(spec, lanes))
        spec = plan.by_name[f"weight/{group}"]
        _of(spec, lanes)[:] = to_limbs(weight, plan.bits, plan.quantisation.members, spec.limbs)
    for name in plan.metrics:
        spec = plan.by_name[f"metric/{name}"]
        metric = contribution.metrics.get(name)
        if metric is not None and not metric.weight * spec.scale > 0.5 and not math.isnan(metric.weight):
            raise fail(Code.ENCODING, f"the weight of {spec.name} does not count", None, f"from {1 / spec.scale:g}")
        pair = (metric.total, metric.weight) if metric else (0.0, 0.0)
        _put_reals(plan, spec, np.array(pair, np.float64), 1, _of(spec, lanes))
    return lanes


def _of(spec: LaneSpec, lanes: Lanes) -> Lanes:
    return lanes[spec.offset : spec.offset + spec.count]


def _check_form(plan: LanePlan, contribution: Contribution) -> None:
    found = {
        f"{name}/{tensor}": (dtype_name(array), array.shape)
        for name, group in contribution.groups.items()
        for tensor, array in group.tensors.items()
    }
    wanted = {f"{group}/{name}": form for group, members in plan.groups.items() for name, form in members.items()}
    odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    odd += sorted(contribution.groups.keys() ^ plan.groups.keys())
    odd += sorted(f"metric/{name}" for name in contribution.metrics.keys() - set(plan.metrics))
    if odd:
        raise fail(Code.ENCODING, "a contribution holds other numbers than the step's lanes", ", ".join(odd[:5]))


def _weight(plan: LanePlan, group: str, weight: float) -> int:
    """The weight that counts. Whole numbers alone: rows, or one; a mean over partners would have to be exact else."""
    if not math.isfinite(weight):
        raise fail(Code.NONFINITE, f"the weight of {group} is NaN or infinity")
    if weight < 1 or weight != math.floor(weight):
        raise fail(Code.ENCODING, f"the weight of {group} is no whole number", None, "from 1")
    return min(int(weight), plan.quantisation.max_weight)


def _blocks(flat: Array) -> Iterator[tuple[slice, Array]]:
    """Parts of a tensor and their elements as float64."""
    for start in range(0, len(flat), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield part, as_float64(flat[part])


def _put_update(plan: LanePlan, spec: LaneSpec, flat: Array, weight: int, key: bytes, into: Lanes) -> None:
    if len(key) != MASK_KEY_BYTES:
        raise ValueError(f"a rounding's key has {MASK_KEY_BYTES} bytes")
    factor, draws = _factor(plan, weight), rounding_draws(key)
    for part, values in _blocks(flat):
        into[part] = to_lanes(quantise_block(values, factor, plan.largest, draws, spec.name), plan.bits)


def _put_noised(
    plan: LanePlan, contribution: Contribution, key: Callable[[], bytes], rotation: bytes, into: Lanes
) -> None:
    assert plan.noise is not None  # noqa: S101  (asked of plans with noise alone)
    values = np.empty(plan.noise.setting.count)
    for group, members in plan.groups.items():
        for name in members:
            place = plan.places[f"{group}/{name}"]
            for part, block in _blocks(contribution.groups[group].tensors[name].reshape(-1)):
                values[place][part] = block
    stream = NoiseStream(lambda _: key())
    if (rule := plan.adaptive) is not None:
        own = vote(rule, l2_norm([values]), plan.noise.setting.clip, NoiseStream(lambda _: key()))
        _of(plan.by_name["vote"], into)[:] = to_lanes(np.array([own]), plan.bits)
    _of(plan.by_name["noised"], into)[:] = distributed.encode(plan.noise, values, rotation, stream)


def _factor(plan: LanePlan, weight: int) -> float:
    """Steps to one of an update's element that counts with `weight`."""
    return plan.scale * (weight / plan.quantisation.max_weight)


def _put_reals(plan: LanePlan, spec: LaneSpec, flat: Array, weight: int, into: Lanes) -> None:
    offset, width = offset_of(spec.clip, spec.scale), plan.quantisation.bits
    columns = into.reshape(-1, spec.limbs)
    for part, values in _blocks(flat):
        if not np.isfinite(values).all():
            raise fail(Code.NONFINITE, f"{spec.name} holds NaN or infinity")
        with np.errstate(over="ignore"):  # infinity is beyond the bound as well
            np.multiply(values, weight, out=values)
        if (np.abs(values) > spec.clip).any():
            raise fail(Code.OVERFLOW, f"{spec.name} is larger than its lanes hold", None, spec.clip)
        steps = np.rint(values * spec.scale).astype(np.int64) + offset
        for limb in range(spec.limbs):
            columns[part, limb] = steps >> width * limb & (1 << width) - 1


def to_bytes(plan: LanePlan, lanes: Lanes, room: Room = bytearray) -> memoryview:
    """The lanes of `encode` as they are kept, in bytes that `room` gives: packed, little-endian bits, b each."""
    out = memoryview(room(packed_bytes(plan.count, plan.bits)))
    pack_into(out, 0, lanes, plan.bits)
    return out.toreadonly()


def from_bytes(plan: LanePlan, data: bytes | bytearray | memoryview) -> Lanes:
    """The same lanes; raises `FaultError` E_ENCODING for another length, or bits beyond the last lane."""
    try:
        return unpack(data, plan.count, plan.bits)
    except ValueError as error:
        raise fail(Code.ENCODING, f"stored lanes are not those of the plan: {error}") from error


# ------------------------------------------------------------------- the sum's lanes to sums


def decode(plan: LanePlan, total: Lanes, members: int, rotation: bytes = b"") -> LaneSums:
    """The sums that `total` stands for: the `plan.count` data lanes, modulo 2^b, of `members` inputs (|U2|).

    `rotation` is the round's key where the plan has noise.

    Raises `FaultError` E_OVERFLOW where a weight or a metric lies beyond what so many members may add: one of them, or
    a fault, added something else. Tensors are not judged here.
    """
    plan.check_members(members)
    if len(total) != plan.count or total.dtype != lane_type(plan.bits):
        raise fail(Code.ENCODING, "the sum has other lanes than the plan", len(total), plan.count)
    noised = distributed.decode(plan.noise, _of(plan.by_name["noised"], total), rotation) if plan.noise else None
    sums = LaneSums(plan, total, members, noised)
    for group in plan.groups:
        if not members <= sums.weight(group) <= members * plan.quantisation.max_weight:
            limit = f"{members} to {members * plan.quantisation.max_weight}"
            raise fail(Code.OVERFLOW, f"weight/{group} is no sum of so many weights", sums.weight(group), limit)
    for name, (measure, weight) in sums.pairs():
        spec = plan.by_name[f"metric/{name}"]
        most = members * offset_of(spec.clip, spec.scale) / spec.scale
        if not (abs(measure) <= most and 0 <= weight <= most):
            raise fail(Code.OVERFLOW, f"metric/{name} is no sum of so many metrics", (measure, weight), most)
    return sums


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LaneSums:
    """The sums of a secure sum, as drivers read them; slices are converted when they are asked for.

    With n members, Q and w_max: an element of an update's weighted sum is wrong by less than n w_max clip / Q, with
    mean 0 and standard deviation sqrt(n) w_max clip / (2 Q) at most, if no |w x| lay above w_max clip; the weighted
    mean by that over the sum of weights. Any other real is wrong by n / (2 real_scale) at most, that is about
    n real_bound / 2^(real_bits - 1), and by the rounding of each w x and of the sum to float64; multiples of
    1 / real_scale, as whole numbers are where real_bound is to 2^(real_bits - 1) - 1, are exact to 2^53. Weights are
    exact. Where the plan has noise, an update's elements have it instead: `NoisePlan` says how much.
    """

    _plan: LanePlan
    _total: Lanes
    _members: int
    _noised: Array | None = None

    def weight(self, group: str) -> float:
        """Sum of the weights of a group."""
        lanes = _of(self._plan.by_name[f"weight/{group}"], self._total)
        return float(from_limbs(lanes, self._plan.bits, self._plan.quantisation.members))

    def within(self) -> float | None:
        """The noised share of members whose update was within the clip, where they voted on it."""
        if (rule := self._plan.adaptive) is None:
            return None
        total = centred(_of(self._plan.by_name["vote"], self._total), self._plan.bits)
        return share_within(rule, int(total[0]), self._members)

    def tensors(self, group: str) -> tuple[str, ...]:
        """Names of a group's tensors."""
        return tuple(self._plan.groups[group])

    def forms(self, group: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape of what was summed, by tensor."""
        return self._plan.groups[group]

    def total(self, group: str, tensor: str) -> Array:
        """float64, of the tensor's shape: the sum of weight times tensor."""
        return self.part(group, tensor, slice(None)).reshape(self._plan.groups[group][tensor][1])

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part], the caller's own: the sum over some elements of the flattened tensor."""
        if self._noised is not None:
            own: Array = self._noised[self._plan.places[f"{group}/{tensor}"]][part].copy()
            return own
        spec = self._plan.by_name[f"{group}/{tensor}"]
        if spec.kind is not LaneKind.UPDATE:
            return self._reals(spec, part)
        values = centred(_of(spec, self._total)[part], self._plan.bits).astype(np.float64)
        values *= self._plan.quantisation.max_weight / spec.scale
        return values

    def pairs(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Each metric's total and weight, whoever had it."""
        for name in self._plan.metrics:
            measure, weight = self._reals(self._plan.by_name[f"metric/{name}"], slice(None)).tolist()
            yield name, (measure, weight)

    def metrics(self) -> dict[str, Metric]:
        """The metrics that somebody had."""
        return {name: Metric(*pair) for name, pair in self.pairs() if pair[1] > 0}

    def _reals(self, spec: LaneSpec, part: slice) -> Array:
        """Reals from limbs, the offsets taken off: the sum of integers, rounded to float64 once.

        A sum of 2^16 integers of 53 bits does not fit int64, but the lowest limbs (16 bits or more) and the others fit
        2^53 each.
        """
        width = self._plan.quantisation.bits
        columns = _of(spec, self._total).reshape(-1, spec.limbs)[part]
        low_limbs = -(-_LOW_BITS // width)
        base = width * low_limbs
        high, low = divmod(offset_of(spec.clip, spec.scale), 1 << base)
        words = np.empty((2, len(columns)), np.int64)
        words[0], words[1] = -self._members * low, -self._members * high
        for limb in range(spec.limbs):
            word = int(limb >= low_limbs)
            words[word] += columns[:, limb].astype(np.int64) << width * (limb - word * low_limbs)
        values: Array = words[1].astype(np.float64)
        values *= math.ldexp(1.0, base)
        values += words[0]
        values /= spec.scale
        return values
