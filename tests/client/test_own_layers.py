"""Layers that stay at a participant: trained and used there, and in nothing that leaves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client import trainer
from aimass.client.local_state import pack_state, unpack_state
from aimass.client.optimizer_state import OPTIMIZER
from aimass.client.own_layers import OWN, with_own_layers
from aimass.client.release import Facts, release
from aimass.client.run_folder import RunFolder, lacking
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.elements import update_shapes
from aimass.proto.errors import BadInput
from aimass.proto.own_layers import check_keep_local
from aimass.proto.plan import (
    DistributedNoise,
    EvaluateSettings,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
)
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.simulate import simulate
from tests.client.test_gate import POLICY
from tests.client.test_trainer import heart, plain_task
from tests.server.test_simulate import hospitals

START = Blob(first_model(plain_task, 1))
HEAD = tuple(name for name in START.layout.by_name if name.startswith("output"))
KEEP = ("output.*",)
TRAIN = TrainSettings(batch_size=32, learning_rate=0.1, steps=4, keep_local=KEEP)
PLAN = Plan(
    name="personal", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model=START.digest,
    stages=(Stage(driver="averaging", options={"rounds": 3}),), train=TRAIN,
)  # fmt: skip


def step(kind: StepKind = StepKind.TRAIN) -> Step:
    return Step(index=0, kind=kind, round=1, participants=("a", "b", "c"), inputs=("0" * 64,), quorum=3, deadline_s=1.0)


def test_an_update_lacks_the_own_layers_and_the_state_has_them_as_they_were_trained() -> None:
    everything = msgspec.structs.replace(TRAIN, keep_local=())
    made, state = trainer.train(plain_task, heart(), START, b"", bytes(32), TRAIN)
    whole, nothing = trainer.train(plain_task, heart(), START, b"", bytes(32), everything)
    assert HEAD
    assert nothing == b""
    update, all_updates = made.groups["update"].tensors, whole.groups["update"].tensors
    assert set(update) == set(all_updates) - set(HEAD)
    for name, value in update.items():
        assert (value == all_updates[name]).all()
    for name, own in unpack_state(state)[OWN].items():
        np.testing.assert_array_equal(own.numpy() - START.numpy(name), all_updates[name])


def test_training_and_evaluation_go_on_from_the_own_layers_and_not_from_the_global_ones() -> None:
    trainee, shard = Trainee(plain_task), heart()
    order = order_of(PLAN, step(), "a")
    first = trainee.do(order, shard, [START], b"")
    second = trainee.do(order, shard, [START], first.state)
    started = with_own_layers(START, first.state, KEEP)
    assert {name for name in HEAD if (started.numpy(name) != START.numpy(name)).any()} == set(HEAD)
    expected, _ = trainer.train(plain_task, shard, started, b"", bytes.fromhex(order.seed), TRAIN)
    assert second.contribution.encode() == expected.encode() != first.contribution.encode()
    looked = order_of(PLAN, step(StepKind.EVALUATE), "a")
    found = trainee.do(looked, shard, [START], first.state)
    assert found.contribution == trainer.evaluate(plain_task, shard, started, EvaluateSettings())
    assert found.contribution != trainer.evaluate(plain_task, shard, START, EvaluateSettings())


def test_a_lost_state_starts_from_the_global_values_and_one_of_another_model_is_named() -> None:
    assert with_own_layers(START, b"", KEEP) is START
    with pytest.raises(BadInput) as caught:
        with_own_layers(START, pack_state({OWN: {HEAD[0]: plain_task.build().state_dict()[HEAD[1]][:1]}}), KEEP)
    assert caught.value.code == "trainer.local_state"
    with pytest.raises(BadInput) as caught:
        with_own_layers(START, b"torn", KEEP)
    assert caught.value.code == "trainer.local_state"


def test_a_state_that_cannot_be_read_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, UNINTERRUPTED)
    assert not folder.drop_broken_state()
    _, state = trainer.train(plain_task, heart(), START, b"", bytes(32), TRAIN)
    for data, broken in ((state, False), (state[:-5], True)):
        folder.local_state.write_bytes(data)
        assert folder.drop_broken_state() is broken
    assert folder.local_state.read_bytes() == b""


def test_the_gate_lets_an_update_without_the_own_layers_pass_and_none_with_them() -> None:
    made = {}
    for keep in (KEEP, ()):
        contribution, _ = trainer.train(
            plain_task, heart(), START, b"", bytes(32), msgspec.structs.replace(TRAIN, keep_local=keep)
        )
        made[keep] = memoryview(contribution.encode())
    assert release(made[KEEP], PLAN, step(), START.layout, POLICY).tensors == len(update_shapes(START.layout, KEEP))
    with pytest.raises(BadInput) as caught:
        release(made[()], PLAN, step(), START.layout, POLICY)
    assert caught.value.code == "contribution.tensors"


def test_a_secure_sum_has_no_lanes_for_own_layers() -> None:
    secured = msgspec.structs.replace(
        PLAN, secure=SecureSettings(), cohort=msgspec.structs.replace(PLAN.cohort, quorum=3)
    )
    shared, every = (lanes_of(secured, step(), {"update": update_shapes(START.layout, keep)}) for keep in (KEEP, ()))
    assert every.lanes - shared.lanes == sum(START.numpy(name).size for name in HEAD)
    contribution, _ = trainer.train(plain_task, heart(), START, b"", bytes(32), TRAIN)
    released = release(
        memoryview(contribution.encode()), secured, step(), START.layout, POLICY, facts=Facts(run_id="0" * 32)
    )
    assert released.beside is not None
    assert set(released.beside.groups["update"]) == set(update_shapes(START.layout)) - set(HEAD)


@pytest.mark.parametrize(
    ("patterns", "value"), [(("nothing.*",), "nothing.*"), (("*",), "*"), (("preprocess.*",), "preprocess.*")]
)
def test_patterns_that_match_nothing_or_everything_are_refused(patterns: tuple[str, ...], value: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_keep_local(START.layout, patterns)
    assert (caught.value.code, caught.value.value) == ("plan.keep_local", value)
    check_keep_local(START.layout, KEEP)


def test_noise_for_partners_with_own_layers_is_refused_with_the_reason() -> None:
    secure = SecureSettings(noise=DistributedNoise(multiplier=1.0, clip=1.0, delta=1e-5, members=3))
    with pytest.raises(ValueError, match="keep_local"):
        msgspec.structs.replace(
            PLAN,
            secure=secure,
            cohort=msgspec.structs.replace(PLAN.cohort, quorum=3),
            train=msgspec.structs.replace(TRAIN, weight="one"),
        )


def test_private_training_keeps_own_layers_that_are_as_noised_as_the_rest() -> None:
    privacy = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-5, divisor=40.0)
    private = msgspec.structs.replace(
        PLAN, privacy=privacy, train=msgspec.structs.replace(TRAIN, weight="one", steps=1)
    )
    done = Trainee(plain_task).do(order_of(private, step(), "a"), heart(), [START], b"")
    assert done.private_steps == 1
    assert not set(done.contribution.groups["update"].tensors) & set(HEAD)
    for name, own in unpack_state(done.state)[OWN].items():
        assert (own.numpy() != START.numpy(name)).all()  # a gradient alone leaves what no row reaches


def test_the_global_model_keeps_its_first_own_layers_and_partners_do_better_with_theirs(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    plan = msgspec.structs.replace(PLAN, model=blobs.put([START.data]))
    done = simulate(plan, plain_task, hospitals(), blobs)
    last = Blob(blobs.open(done.model))
    for name in START.layout.by_name:
        same = bool((last.numpy(name) == START.numpy(name)).all())
        assert same == (name in HEAD or name.startswith("preprocess."))
    metrics = [trainer.evaluate(plain_task, shard, last, plan.evaluate).metrics["loss"].total for shard in hospitals()]
    assert done.evaluations[-1].metrics["loss"].total < sum(metrics)


def test_a_partner_is_told_where_it_has_no_layers_of_its_own(tmp_path: Path) -> None:
    folder, first = RunFolder(tmp_path, UNINTERRUPTED), step()
    later = msgspec.structs.replace(first, round=2)
    assert not list(lacking(folder, PLAN, first))
    assert "lost" in next(lacking(folder, PLAN, later))
    _, state = trainer.train(plain_task, heart(), START, b"", bytes(32), TRAIN)
    folder.local_state.write_bytes(state)
    assert not list(lacking(folder, PLAN, later))
    folder.local_state.write_bytes(state[:-1])
    assert len(list(lacking(folder, PLAN, later))) == 2


def test_an_optimiser_that_was_kept_before_there_were_sections_is_read_as_one() -> None:
    held = np.arange(3, dtype=np.float32)
    sections = unpack_state(encode_numpy({"0/exp_avg": held, "12/step": np.full((), 4.0, np.float32)}))
    assert set(sections) == {OPTIMIZER}
    assert set(sections[OPTIMIZER]) == {"0/exp_avg", "12/step"}
    np.testing.assert_array_equal(sections[OPTIMIZER]["0/exp_avg"].numpy(), held)
