"""A participant's update made small as the plan says, and what was not sent kept for the next one.

Error feedback as in Karimireddy et al. 2019, algorithm 2 (Stich et al. 2018, algorithm 1), with a training step's
update in the place of a gradient step, and e what is kept from the last step that was counted:

    p = u + e          line 4
    C(p) is sent       line 5
    e <- p - C(p)      line 7

C keeps the elements of `compression`, and rounds them without bias: |x| / s is floor(|x| / s + v), v uniform in [0, 1)
(QSGD, Alistarh et al. 2017, section 3.1, with s from the largest element of each block).
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import torch

from aimass.client.local_state import Section
from aimass.proto.compression import BLOCK, INDEX, LEVELS, SCALE, Codec, Kept, Packed, kept_count, run_lengths
from aimass.proto.contribution import Contribution, Group, sliced
from aimass.proto.elements import as_float64, from_float64
from aimass.proto.errors import BadInput
from aimass.proto.methods import UPDATE
from aimass.proto.plan import Compress
from aimass.proto.tensors import Array

__all__ = ["RESIDUAL", "compressed", "largest", "quantised"]

RESIDUAL: Final = "residual"
"""The section of a local state that holds e."""

_STRETCH: Final = 256 * BLOCK


def compressed(codec: Codec, made: Contribution, held: Section, seed: bytes) -> tuple[Contribution, Section]:
    """The contribution with its update compressed, and the new e; `held` is e, zero where nothing is kept.

    `seed` starts the rounding. Raises `BadInput` for an e of another model.
    """
    update = made.groups[UPDATE]
    draws = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    groups: dict[str, dict[str, Array]] = {UPDATE: {}, INDEX: {}, SCALE: {}}
    residual: dict[str, torch.Tensor] = {}
    for name, array in update.tensors.items():
        kept = codec.kept(name)
        if kept is None:
            groups[UPDATE][name] = array
            continue
        wanted = as_float64(array).reshape(-1)
        if name in held:
            wanted += _flat(held[name], kept)
        packed, places = _packed(kept, wanted, codec.shapes[name][0], draws)
        groups[UPDATE][name] = packed.values
        if packed.kept.index is not None:
            groups[INDEX][name] = packed.kept.index
        if packed.scale is not None:
            groups[SCALE][name] = packed.scale
        if codec.compress.error_feedback:
            wanted[places] -= packed.numbers(slice(0, len(packed.values)), sliced)
            residual[name] = torch.from_numpy(wanted.astype(array.dtype if array.dtype == np.float64 else np.float32))
    sent = {group: Group(update.weight, tensors) for group, tensors in groups.items() if tensors}
    return Contribution({**made.groups, **sent}, made.metrics, made.figures), residual


def _flat(held: torch.Tensor, kept: Kept) -> Array:
    if held.numel() != kept.count:
        raise BadInput("what is kept of earlier updates is of another model", code="trainer.local_state")
    return held.numpy()


def _packed(kept: Kept, wanted: Array, dtype: str, draws: np.random.Generator) -> tuple[Packed, Array | slice]:
    """What is sent of float64 `wanted`, and where that stands in it."""
    compress = kept.compress
    places: Array | slice = slice(None)
    match compress.sparsify:
        case "random-mask":
            places = kept.places(kept.span(slice(0, kept.count)), sliced)
        case "top-k":
            places = largest(compress, wanted)
            kept = dataclasses.replace(kept, index=(places % BLOCK).astype(np.uint8))
    chosen = wanted[places]
    if not compress.error_feedback:  # in expectation, one that is kept stands for all of its run
        chosen *= run_lengths(compress.one_in, kept.count, slice(0, len(chosen)))
    if compress.quantise == "int8":
        return Packed(kept, *quantised(chosen, draws)), places
    return Packed(kept, from_float64(chosen, dtype)), places


def largest(compress: Compress, values: Array) -> Array:
    """int64, ascending: where of each block the elements stand that are largest in size."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(values), _STRETCH):
        part = np.abs(values[start : start + _STRETCH])
        whole = len(part) // BLOCK * BLOCK
        for rows, first in ((part[:whole].reshape(-1, BLOCK), start), (part[None, whole:], start + whole)):
            if rows.size:
                each = kept_count(compress, rows.shape[1])
                places = np.sort(np.argpartition(rows, -each, axis=1)[:, -each:], axis=1)
                found.append((places + np.arange(len(rows))[:, None] * BLOCK + first).reshape(-1))
    return np.concatenate(found)


def quantised(values: Array, draws: np.random.Generator) -> tuple[Array, Array]:
    """int8 of the shape of float64 `values`, and the float32 step of each block: q times the step is `values` on
    average, and off by less than a step."""
    levels = np.empty(len(values), np.int8)
    steps = np.empty(-(-len(values) // BLOCK), np.float32)
    for start in range(0, len(values), _STRETCH):
        part = values[start : start + _STRETCH]
        firsts = np.arange(0, len(part), BLOCK)
        step = steps[start // BLOCK :][: len(firsts)]
        step[:] = _step(np.maximum.reduceat(np.abs(part), firsts))
        each = np.repeat(step.astype(np.float64), BLOCK)[: len(part)]
        scaled = np.divide(part, each, out=np.zeros_like(part), where=each > 0)
        levels[start : start + _STRETCH] = np.floor(scaled + draws.random(len(part)))
    return levels, steps


def _step(largest_of: Array) -> Array:
    """float32: so much that the largest of a block is `LEVELS` steps at most."""
    steps = (largest_of / LEVELS).astype(np.float32)
    return np.where(steps * np.float64(LEVELS) < largest_of, np.nextafter(steps, np.float32(np.inf)), steps)
