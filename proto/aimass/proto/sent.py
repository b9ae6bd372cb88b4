"""A contribution as it was sent, and how its elements are read whatever form they came in.

Who adds, compares or checks contributions reads them here, part by part: a compressed update is undone where it is
read, and nowhere else is it known that it was one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from aimass.proto.compression import INDEX, SCALE, Codec, Read, mask_key
from aimass.proto.contribution import Contribution, Group, Limits, check_contribution, group_norm, sliced
from aimass.proto.elements import as_float64, dtype_name, update_shapes
from aimass.proto.errors import BadInput
from aimass.proto.methods import UPDATE, training_groups
from aimass.proto.plan import Plan
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Layout

__all__ = ["Elements", "Sent", "check_sent", "codec_of", "sent_with", "trained_groups"]

Elements = Callable[[Read, slice, Array], None]
"""Puts some elements of a flattened tensor into a float64 array, the part being read by the first argument."""


def codec_of(plan: Plan, step: Step, model: Layout) -> Codec | None:
    """How updates of a step on `model` are compressed; None where they are not, or are none.

    Late work is of the step that it was asked for.
    """
    if plan.compress is None or step.kind is not StepKind.TRAIN:
        return None
    return Codec(plan.compress, mask_key(plan.seed, step.round), update_shapes(model, plan.train.keep_local))


def trained_groups(plan: Plan, model: Layout) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """What a contribution to a training step on `model` holds on the wire: groups, tensors, element types, shapes."""
    return training_groups(plan.method, model, plan.train.keep_local, plan.compress)


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A contribution, with the codec of its update where it has one."""

    contribution: Contribution
    codec: Codec | None = None

    def weight(self, group: str) -> float:
        """The weight of a group."""
        return self.contribution.groups[group].weight

    def forms(self, group: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape of a group's tensors, as they were before they were compressed."""
        if self.codec is not None and group == UPDATE:
            return self.codec.shapes
        tensors = self.contribution.groups[group].tensors
        return {name: (dtype_name(array), array.shape) for name, array in tensors.items()}

    def elements(self, group: str, tensor: str) -> Elements:
        """The elements of a tensor."""
        if self.codec is not None and group == UPDATE:
            packed = self.codec.packed(group, _tensors(self.contribution), tensor)
            if packed is not None:
                return packed
        flat = self.contribution.groups[group].tensors[tensor].reshape(-1)

        def plain(read: Read, part: slice, into: Array) -> None:
            as_float64(read(flat, part), into)

        return plain


def sent_with(contributions: Sequence[Contribution], codecs: Sequence[Codec | None]) -> tuple[Sent, ...]:
    """Each contribution with its codec; all without where none are given."""
    return tuple(map(Sent, contributions, codecs or [None] * len(contributions)))


def check_sent(
    sent: Sent,
    expected: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]] | None,
    limits: Limits,
    read: Read = sliced,
) -> None:
    """As `check_contribution`, of a compressed update too: `expected` is then what it is on the wire, and the norm that
    of the update that it stands for.

    Raises `BadInput` for places that repeat or lie outside a tensor, and for scales that are none, too.
    """
    if sent.codec is None:
        check_contribution(sent.contribution, expected, limits, read)
        return
    check_contribution(sent.contribution, expected, dataclasses.replace(limits, norm=math.inf), read)
    beside = {name: one for name, one in sent.contribution.groups.items() if name not in (UPDATE, INDEX, SCALE)}
    check_contribution(dataclasses.replace(sent.contribution, groups=beside), None, limits, read)
    groups, square = _tensors(sent.contribution), 0.0
    for name in sent.codec.shapes:
        packed = sent.codec.packed(UPDATE, groups, name)
        if packed is None:
            square += group_norm(Group(1.0, {name: groups[UPDATE][name]}), read) ** 2
        else:
            packed.check(read)
            square += packed.square(read)
    if not math.isfinite(square):
        raise BadInput("a contribution was refused: the update is not finite", code="contribution.not_finite")
    if math.sqrt(square) > limits.norm:
        raise BadInput(
            "a contribution was refused: the norm of a group is too large",
            code="contribution.norm",
            value=f"{UPDATE} {math.sqrt(square):.6g}",
            limit=limits.norm,
        )


def _tensors(contribution: Contribution) -> dict[str, Mapping[str, Array]]:
    return {name: group.tensors for name, group in contribution.groups.items()}
