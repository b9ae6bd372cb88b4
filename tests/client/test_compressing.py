"""A participant's update made small: against plain oracles, without bias, and with what was left out sent later."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aimass.client.compressing import RESIDUAL, compressed, largest, quantised
from aimass.client.local_state import RUN, unpack_state
from aimass.client.optimizer_state import OPTIMIZER
from aimass.client.release import Facts, release
from aimass.client.run_folder import RunFolder, lacking
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.compression import BLOCK, Codec, kept_count, mask_key
from aimass.proto.contribution import Contribution, Group, Limits, decode_contribution, sliced
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput
from aimass.proto.methods import UPDATE, training_groups
from aimass.proto.plan import Cohort, Compress, DistributedNoise, Plan, SecureSettings
from aimass.proto.sent import Sent, check_sent, codec_of
from aimass.proto.step import StepKind
from aimass.proto.tensors import Array, Blob
from tests.client.test_gate import POLICY
from tests.client.test_own_layers import PLAN, START, step
from tests.client.test_trainer import heart, plain_task
from tests.server.test_simulate import PRIVACY

WAYS = {
    "mask": Compress(sparsify="random-mask", one_in=8),
    "unbiased": Compress(sparsify="random-mask", one_in=8, error_feedback=False),
    "top": Compress(sparsify="top-k", one_in=16),
    "int8": Compress(quantise="int8"),
    "both": Compress(sparsify="top-k", one_in=16, quantise="int8"),
    "masked8": Compress(sparsify="random-mask", one_in=8, quantise="int8", error_feedback=False),
}
COUNTS = st.sampled_from((0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5))


def codec(compress: Compress, count: int, round_: int = 1, dtype: str = "F32") -> Codec:
    return Codec(compress, mask_key(1, round_), {"w": (dtype, (count,))})


def contribution(values: Array) -> Contribution:
    return Contribution({UPDATE: Group(3.0, {"w": values})}, {}, {})


def undone(made: Contribution, codec: Codec) -> Array:
    values = np.empty(codec.shapes["w"][1])
    Sent(made, codec).elements(UPDATE, "w")(sliced, slice(0, len(values)), values)
    return values


@given(COUNTS, st.integers(2, 256), st.integers(0, 9))
def test_the_largest_of_each_block_are_those_that_a_sort_finds(count: int, one_in: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(np.arange(1.0, count + 1)) * (-1.0) ** np.arange(count)
    compress, wanted = Compress(sparsify="top-k", one_in=one_in), []
    for start in range(0, count, BLOCK):
        block = np.abs(values[start : start + BLOCK])
        wanted += sorted(start + np.argsort(-block)[: kept_count(compress, len(block))])
    assert largest(compress, values).tolist() == wanted


@given(arrays(np.float64, st.integers(0, 600), elements=st.floats(-1e6, 1e6)), st.integers(0, 9))
def test_a_rounded_element_is_one_of_the_two_steps_around_it(values: Array, seed: int) -> None:
    levels, steps = quantised(values, np.random.default_rng(seed))
    each = np.repeat(steps.astype(np.float64), BLOCK)[: len(values)]
    assert (np.abs(levels.astype(int)) <= 127).all()
    assert (np.abs(levels * each - values) <= each * (1 + 1e-9)).all()


def test_rounding_has_no_bias() -> None:
    values = np.tile(np.random.default_rng(1).normal(size=BLOCK), 4_000)
    levels, steps = quantised(values, np.random.default_rng(2))
    made = (levels * np.repeat(steps.astype(np.float64), BLOCK)).reshape(-1, BLOCK)
    error = made.mean(axis=0) - values[:BLOCK]
    assert np.abs(error).max() < 5 * steps[0] / 2 / 4_000**0.5


@pytest.mark.parametrize("way", ["unbiased", "masked8"])
def test_without_error_feedback_what_is_sent_is_the_update_on_average(way: str) -> None:
    values, total = np.random.default_rng(1).normal(size=21).astype(np.float32), np.zeros(21)
    for round_ in range(4_000):
        this = codec(WAYS[way], 21, round_)
        total += undone(compressed(this, contribution(values), {}, round_.to_bytes(8, "big"))[0], this)
    assert np.abs(total / 4_000 - values).max() < 5 * np.abs(values).max() * (7 / 4_000) ** 0.5


@given(st.sampled_from(["mask", "top", "int8", "both"]), COUNTS, st.sampled_from(["F32", "F64", "F16"]))
def test_what_is_sent_and_what_is_kept_are_the_update_and_what_was_kept_before(
    way: str, count: int, dtype: str
) -> None:
    rng = np.random.default_rng(count)
    held: dict[str, torch.Tensor] = {}
    owed, got = np.zeros(count), np.zeros(count)
    kind = {"F32": np.float32, "F64": np.float64, "F16": np.float16}[dtype]
    for round_ in range(3):
        update = rng.normal(size=count).astype(kind)
        owed += update
        this = codec(WAYS[way], count, round_, dtype)
        made, kept = compressed(this, contribution(update), held, bytes(32))
        held = dict(kept)
        got += undone(decode_contribution(Blob(made.encode())), this)
        assert {group.weight for group in made.groups.values()} == {3.0}
    np.testing.assert_allclose(got + held["w"].numpy(), owed, atol=1e-5)


@given(st.sampled_from(sorted(WAYS)), COUNTS, st.data())
def test_any_part_is_read_as_in_the_whole(way: str, count: int, data: st.DataObject) -> None:
    this = codec(WAYS[way], count)
    made, _ = compressed(this, contribution(np.random.default_rng(1).normal(size=count)), {}, bytes(32))
    whole = undone(made, this)
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    part = np.full(stop - start, np.nan)
    Sent(made, this).elements(UPDATE, "w")(sliced, slice(start, stop), part)
    assert part.tobytes() == whole[start:stop].tobytes()


def test_integers_go_as_they_are_and_other_groups_too() -> None:
    groups = {UPDATE: Group(1.0, {"n": np.array([1, 1 << 60])}), "steps": Group(1.0, {"norm": np.array(4.0)})}
    this = Codec(WAYS["both"], mask_key(1, 1), {"n": ("I64", (2,))})
    made, kept = compressed(this, Contribution(groups, {}, {}), {}, bytes(32))
    assert made.groups[UPDATE].tensors["n"].tolist() == [1, 1 << 60]
    assert set(made.groups) == {UPDATE, "steps"}
    assert not kept


def test_what_is_kept_of_another_model_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        compressed(codec(WAYS["top"], 5), contribution(np.ones(5)), {"w": torch.zeros(6)}, bytes(32))
    assert refused.value.code == "trainer.local_state"


# ---------------------------------------------------------------- in the trainee and through the gate


def planned(way: str, **more: object) -> Plan:
    return msgspec.structs.replace(PLAN, **{"compress": WAYS[way], **more})


@pytest.mark.parametrize("way", sorted(WAYS))
def test_what_a_trainee_makes_is_what_gate_and_server_expect_and_repeats(way: str) -> None:
    plan = planned(way)
    order = order_of(plan, step(), "a", "7" * 32)
    done = Trainee(plain_task).do(order, heart(), [START], b"")
    again = Trainee(plain_task).do(order, heart(), [START], b"")
    assert done.contribution.encode() == again.contribution.encode()
    released = release(memoryview(done.contribution.encode()), plan, step(), START.layout, POLICY)
    sent = Sent(decode_contribution(Blob(b"".join(released.parts))), codec_of(plan, step(), START.layout))
    expected = training_groups("plain", START.layout, plan.train.keep_local, plan.compress)
    check_sent(sent, expected, Limits())
    assert (RESIDUAL in unpack_state(done.state)) == WAYS[way].error_feedback
    assert "output.weight" not in sent.contribution.groups[UPDATE].tensors


def test_a_private_update_is_compressed_after_its_noise_and_the_moments_stay_beside_what_was_left_out() -> None:
    train = msgspec.structs.replace(PLAN.train, weight="one", momentum=0.9, keep_optimizer=True, keep_local=())
    plan = planned("both", privacy=PRIVACY, train=train)
    done = Trainee(plain_task).do(order_of(plan, step(), "a", "7" * 32), heart(), [START], b"")
    assert done.private_steps == 4
    assert set(unpack_state(done.state)) == {OPTIMIZER, RESIDUAL, RUN}
    release(memoryview(done.contribution.encode()), plan, step(), START.layout, POLICY, private_steps=4)


@pytest.mark.parametrize("noise", [None, DistributedNoise(multiplier=1.0, clip=1.0, delta=1e-5, members=3)])
def test_lanes_of_a_secure_sum_are_those_of_the_elements_that_the_mask_keeps(noise: DistributedNoise | None) -> None:
    train = msgspec.structs.replace(PLAN.train, weight="one", keep_local=())
    secure = SecureSettings(colluders=0.0, metrics=(), noise=noise)
    sizes = []
    for compress in (None, WAYS["mask"]):
        plan = msgspec.structs.replace(PLAN, train=train, secure=secure, compress=compress, cohort=Cohort(quorum=3))
        done = Trainee(plain_task).do(order_of(plan, step(), "a", "7" * 32), heart(), [START], b"")
        facts = Facts("7" * 32)
        made = release(memoryview(done.contribution.encode()), plan, step(), START.layout, POLICY, facts=facts)
        sizes.append(sum(map(len, made.parts)))
    assert sizes[1] < 0.25 * sizes[0]


def test_a_child_that_sends_a_place_twice_is_refused_at_the_gate() -> None:
    plan = planned("top")
    done = Trainee(plain_task).do(order_of(plan, step(), "a"), heart(), [START], b"")
    groups = {name: Group(group.weight, dict(group.tensors)) for name, group in done.contribution.groups.items()}
    index = groups["index"].tensors
    wrong = {name: np.zeros_like(array) for name, array in index.items()}
    groups["index"] = Group(groups["index"].weight, wrong)
    with pytest.raises(BadInput) as refused:
        release(memoryview(Contribution(groups, {}, {}).encode()), plan, step(), START.layout, POLICY)
    assert refused.value.code == "contribution.index_order"


def test_a_state_of_another_run_is_dropped_and_lost_and_a_person_is_told(tmp_path: Path) -> None:
    plan, folder = planned("both"), RunFolder(tmp_path, UNINTERRUPTED)
    state = Trainee(plain_task).do(order_of(plan, step(), "a", "7" * 32), heart(), [START], b"").state
    folder.local_state.write_bytes(state)
    assert not list(lacking(folder, plan, step(), kept=True, run_id="7" * 32))
    assert folder.local_state.read_bytes() == state
    told = list(lacking(folder, plan, step(), kept=True, run_id="8" * 32))
    assert "another run" in told[0]
    assert any("left out of earlier updates is lost" in sentence for sentence in told[1:])
    assert not folder.local_state.stat().st_size


def test_evaluation_is_not_compressed() -> None:
    order = order_of(planned("both"), step(StepKind.EVALUATE), "a")
    assert not Trainee(plain_task).do(order, heart(), [START], b"").contribution.groups


@pytest.mark.parametrize("way", ["mask", "top", "int8", "both"])
def test_with_error_feedback_partners_that_disagree_end_at_the_optimum_of_their_mean(way: str) -> None:
    """Each pulls to a point of its own: f_i(x) = |x - c_i|^2 / 2, whose mean is least at the mean of the points."""
    points = np.random.default_rng(5).normal(size=(4, 300))
    model, held = np.zeros(300), [dict[str, torch.Tensor]() for _ in points]
    for round_ in range(600):
        this, moved = codec(WAYS[way], 300, round_, "F64"), np.zeros(300)
        for place, point in enumerate(points):
            step_of = contribution(2 / (40 + round_) * (point - model))
            made, kept = compressed(this, step_of, held[place], round_.to_bytes(8, "big"))
            held[place] = dict(kept)
            moved += undone(made, this) / len(points)
        model += moved
    assert np.abs(model - points.mean(axis=0)).max() < 0.02 < 0.02 * np.abs(points.mean(axis=0)).max()
