"""Compressed updates at the server: sums, rules, late work and secure sums read them as the updates that they are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.compressing import compressed
from aimass.proto.compression import Codec, mask_key
from aimass.proto.contribution import Contribution, Group, decode_contribution, sliced
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.methods import UPDATE
from aimass.proto.plan import Cohort, Compress, decode_plan, encode_plan
from aimass.proto.tensors import Array, Blob
from aimass.server import runs, steps
from aimass.server.aggregation.robust import RobustSums, Singles
from aimass.server.aggregation.spread import SpreadSums
from aimass.server.aggregation.sums import SpooledSums
from tests.support.clock import ManualClock
from tests.support.engines import Bench
from tests.support.rules import oracle

COUNT = (1 << 16) + 700
SHAPES = {"w": ("F32", (COUNT // 4, 4)), "n": ("I64", (3,))}
MASK = Compress(sparsify="random-mask", one_in=16)
WAYS = (
    MASK,
    Compress(sparsify="random-mask", one_in=3, quantise="int8", error_feedback=False),
    Compress(sparsify="top-k", one_in=32, quantise="int8"),
    Compress(quantise="int8"),
)


def updates(number: int) -> list[Contribution]:
    rng = np.random.default_rng(number)
    return [
        Contribution(
            {UPDATE: Group(place + 0.5, {"n": rng.integers(-9, 9, 3), "w": rng.normal(size=SHAPES["w"][1]).astype(np.float32)})},
            {}, {},
        )
        for place in range(number)
    ]  # fmt: skip


def small(
    compress: Compress, made: Sequence[Contribution], rounds: Sequence[int]
) -> tuple[list[Contribution], list[Codec], list[Array]]:
    """The updates as they are sent, each in a round of its own, with codecs, and what they stand for: one by one."""
    sent, codecs, stood = [], [], []
    for one, round_ in zip(made, rounds, strict=True):
        codec = Codec(compress, mask_key(1, round_), SHAPES)
        sent.append(decode_contribution(Blob(compressed(codec, one, {}, bytes(32))[0].encode())))
        codecs.append(codec)
        packed = codec.packed(UPDATE, {name: group.tensors for name, group in sent[-1].groups.items()}, "w")
        assert packed is not None
        all_, whole = slice(0, len(packed.values)), np.zeros(COUNT)
        places, numbers = packed.kept.places(all_, sliced), packed.numbers(all_, sliced)
        for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
            whole[place] = number
        stood.append(whole)
    return sent, codecs, stood


@pytest.mark.parametrize("compress", WAYS, ids=["mask", "unbiased", "top-k", "int8"])
def test_a_sum_is_that_of_the_updates_that_were_sent_whatever_part_is_read(compress: Compress) -> None:
    made = updates(3)
    sent, codecs, stood = small(compress, made, (5, 5, 4))
    sums = SpooledSums(sent, codecs)
    total = 0.5 * stood[0] + 1.5 * stood[1] + 2.5 * stood[2]
    assert sums.total(UPDATE, "w").tobytes() == total.reshape(SHAPES["w"][1]).tobytes()
    for part in (slice(0, 7), slice(65_530, 65_600), slice(COUNT - 3, COUNT), slice(9, 9)):
        assert sums.part(UPDATE, "w", part).tobytes() == total[part].tobytes()
    whole = sum(one.groups[UPDATE].weight * one.groups[UPDATE].tensors["n"] for one in made)
    assert sums.total(UPDATE, "n").tolist() == np.asarray(whole).tolist()


@pytest.mark.parametrize("rule", ["median", "krum"])
def test_a_robust_rule_looks_at_the_updates_that_were_sent(rule: str) -> None:
    sent, codecs, stood = small(MASK, updates(5), (2,) * 5)
    value = RobustSums(Singles(sent, codecs), rule, 1).total(UPDATE, "w")
    np.testing.assert_allclose(value.reshape(-1), oracle(rule, np.stack(stood), 1), atol=1e-12)


def test_the_sum_over_what_a_mask_kept_is_spread_over_the_whole_update() -> None:
    sent, codecs, _ = small(MASK, updates(3), (5, 5, 5))
    kept, sums = SpooledSums(sent), SpooledSums(sent, codecs)
    spread = SpreadSums(kept, codecs[0])
    assert kept.total(UPDATE, "w").shape == (-(-COUNT // 16),)
    assert spread.total(UPDATE, "w").tobytes() == sums.total(UPDATE, "w").tobytes()
    for part in (slice(0, 7), slice(31, 33), slice(COUNT - 3, COUNT)):
        assert spread.part(UPDATE, "w", part).tobytes() == sums.part(UPDATE, "w", part).tobytes()
    assert spread.total(UPDATE, "n").tolist() == sums.total(UPDATE, "n").tolist()
    assert spread.weight(UPDATE) == sums.weight(UPDATE)


# ---------------------------------------------------------------- in the engine


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


HALF = Compress(sparsify="random-mask", one_in=2)


def _plan(bench: Bench, **changed: object) -> bytes:
    plan = decode_plan(bench.plan(rounds=2, quorum=2))
    return encode_plan(msgspec.structs.replace(plan, compress=HALF, **changed))


def _half(value: float, round_: int) -> bytes:
    """What the mask of a round keeps of an update of four elements that are all `value`."""
    codec = Codec(HALF, mask_key(1, round_), {"w": ("F32", (4,))})
    made = Contribution({UPDATE: Group(1.0, {"w": np.full(4, value, np.float32)})}, {}, {})
    return compressed(codec, made, {}, bytes(32))[0].encode()


def _mask(round_: int) -> Array:
    codec = Codec(HALF, mask_key(1, round_), {"w": ("F32", (4,))})
    kept = codec.kept("w")
    assert kept is not None
    mask = np.zeros(4)
    mask[kept.places(slice(0, 2), sliced)] = 1.0
    return mask


def test_late_work_is_undone_by_the_mask_of_the_round_that_it_was_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), ("east", "north", "west"))
        cohort = Cohort(quorum=2, late="next", step_deadline_s=100.0, join_deadline_s=100.0)
        run_id = await bench.submit(_plan(bench, cohort=cohort))
        await bench.join(run_id)
        for name in ("east", "north"):
            await bench.send_bytes(run_id, name, 0, _half(1.0, 1))
        await bench.engine.apply(run_id, runs.InStep(index=0, event=steps.TimeUp()))
        await bench.until(run_id, lambda run: "0" not in run.open)
        await bench.send_bytes(run_id, "west", 0, _half(7.0, 1))
        for name in ("east", "north"):
            await bench.send_bytes(run_id, name, 1, _half(1.0, 2))
        run = await bench.finished(run_id)
        found = Blob(bench.blobs.open(run.model)).numpy("w")
        wanted = _mask(1) + (2 * _mask(2) + 7 * _mask(1)) / 3
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert (_mask(1) != _mask(2)).any()
        await bench.stop()

    _run(scenario())


def test_a_contribution_of_a_wrong_length_is_refused_and_the_step_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), ("east", "north", "south"))
        run_id = await bench.submit(_plan(bench))
        await bench.join(run_id)
        whole = Contribution({UPDATE: Group(1.0, {"w": np.ones(4, np.float32)})}, {}, {}).encode()
        with pytest.raises(AimassError) as refused:
            await bench.send_bytes(run_id, "north", 0, whole)
        assert refused.value.code == "contribution.shape"
        await bench.send_bytes(run_id, "south", 0, _half(1.0, 1))
        slot = bench.engine.live(run_id).row.run.open["0"].slots["north"]
        assert "contribution.shape" in slot.reason
        await bench.stop()

    _run(scenario())


def test_top_k_under_a_robust_rule_is_refused_at_submission_with_the_cure(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), tuple("abcde"))
        plan = decode_plan(bench.plan(quorum=5))
        stage = msgspec.structs.replace(plan.stages[0], options={"rounds": 1, "rule": "median", "tolerated": 1})
        for sparsify, code in (("top-k", "plan.robust_compress"), ("random-mask", "")):
            compress = Compress(sparsify=sparsify, one_in=2)  # type: ignore[arg-type]
            data = encode_plan(msgspec.structs.replace(plan, compress=compress, stages=(stage,)))
            if not code:
                await bench.submit(data)
                continue
            with pytest.raises(BadInput, match="random-mask") as refused:
                await bench.submit(data)
            assert refused.value.code == code
        await bench.stop()

    _run(scenario())
