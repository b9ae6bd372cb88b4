"""SCAFFOLD and FedNova at a partner: what is sent, what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from aimass.client import fednova, scaffold, trainer
from aimass.client.capacity import Capacity
from aimass.client.local_state import pack_state, unpack_state
from aimass.client.run_folder import RunFolder, lacking
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput
from aimass.proto.methods import training_groups
from aimass.proto.plan import TrainSettings
from aimass.proto.rows import Batch
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy, encode_torch
from tests.proto.test_methods import planned
from tests.support.convex import Logistic, Model, logistic, partners

TRAIN = TrainSettings(batch_size=8, learning_rate=0.1, steps=4, weight="one")
SHARD = partners([20], spread=1.0)[0].shard
START = Blob(encode_numpy({"weight": Model.zero().weight, "bias": Model.zero().bias}))
SERVER = {"weight": np.full((2, 3), 0.01), "bias": np.array([0.02, -0.02])}


class Normed(Logistic):
    """With running statistics, a counter, and half precision."""

    def build(self) -> torch.nn.Module:
        return _Normed()


class _Normed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.out = torch.nn.Linear(3, 2, dtype=torch.bfloat16)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.norm(numbers).bfloat16())
        return logits.float()


def test_without_control_variates_it_is_plain_training_whose_change_is_the_mean_step() -> None:
    made, state = scaffold.train(logistic, SHARD, [START], b"", bytes(32), TRAIN)
    plain, _ = trainer.train(logistic, SHARD, START, b"", bytes(32), TRAIN)
    for name, moved in plain.groups["update"].tensors.items():
        assert (made.groups["update"].tensors[name] == moved).all()
        np.testing.assert_array_equal(made.groups["control"].tensors[name], -moved / 4)
        np.testing.assert_array_equal(unpack_state(state)["control"][name].numpy(), -moved / 4)


def test_equal_control_variates_correct_nothing_and_others_by_their_difference_in_each_step() -> None:
    plain, _ = trainer.train(logistic, SHARD, START, b"", bytes(32), TRAIN)
    control = Blob(encode_numpy(SERVER))
    same = pack_state({"control": {name: torch.from_numpy(value) for name, value in SERVER.items()}})
    equal, after = scaffold.train(logistic, SHARD, [START, control], same, bytes(32), TRAIN)
    other, _ = scaffold.train(logistic, SHARD, [START, control], b"", bytes(32), TRAIN)
    for name, moved in plain.groups["update"].tensors.items():
        np.testing.assert_allclose(equal.groups["update"].tensors[name], moved, rtol=0, atol=1e-15)
        np.testing.assert_allclose(unpack_state(after)["control"][name].numpy(), -moved / 4, rtol=0, atol=1e-15)
        assert np.abs(other.groups["update"].tensors[name] - moved).max() > 0.01


@pytest.mark.parametrize("method", ["scaffold", "fednova"])
def test_what_is_sent_has_the_shapes_that_all_sides_expect_whatever_the_model_is_made_of(method: str) -> None:
    """Half precision, running statistics, counters, layers that stay here."""
    torch.manual_seed(3)
    task, settings = Normed(), msgspec.structs.replace(TRAIN, keep_local=("out.bias",))
    model = Blob(encode_torch(task.build().state_dict()))
    if method == "scaffold":
        made, state = scaffold.train(task, SHARD, [model], b"", bytes(32), settings)
        again, _ = scaffold.train(task, SHARD, [model], state, bytes(32), settings)
        assert set(unpack_state(state)) == {"control", "own"}
        assert not made.groups["control"].tensors["norm.running_mean"].any()  # no parameter: nothing corrects it
        assert again.groups["update"].tensors["norm.num_batches_tracked"] == 4
    else:
        capacity = Capacity(most_steps=2)
        fewer = msgspec.structs.replace(settings, fewer_steps=True)
        made, state = fednova.train(task, SHARD, model, bytes(32), fewer, capacity)
        assert set(unpack_state(state)) == {"own"}
        assert float(made.groups["steps"].tensors["norm"]) == 2.0
        assert made.groups["update"].tensors["norm.num_batches_tracked"] == 2  # a counter is sent as it is
    expected = training_groups("scaffold" if method == "scaffold" else "fednova", model.layout, ("out.bias",))
    encoded = Blob(made.encode()).layout.shapes()
    found = {name: shape for name, shape in encoded.items() if not name.startswith("weight/")}
    assert found == {f"{group}/{name}": form for group, members in expected.items() for name, form in members.items()}


def test_steps_are_fewer_only_where_the_plan_lets_them_be() -> None:
    few = Capacity(most_steps=2)
    norms = [
        float(fednova.train(logistic, SHARD, START, bytes(32), settings, few)[0].groups["steps"].tensors["norm"])
        for settings in (TRAIN, msgspec.structs.replace(TRAIN, fewer_steps=True))
    ]
    assert norms == [4.0, 2.0]
    plain = [
        trainer.train(logistic, SHARD, START, b"", bytes(32), TRAIN, capacity)[0] for capacity in (few, Capacity())
    ]
    assert plain[0].encode() == plain[1].encode()


@pytest.mark.parametrize("whose", ["server", "own"])
def test_a_control_variate_of_another_model_is_refused(whose: str) -> None:
    wrong = {"weight": np.zeros((2, 3)), "bias": np.zeros(3)}
    server = Blob(encode_numpy(wrong if whose == "server" else SERVER))
    state = pack_state({"control": {name: torch.from_numpy(v) for name, v in wrong.items()}}) if whose == "own" else b""
    with pytest.raises(BadInput) as refused:
        scaffold.train(logistic, SHARD, [START, server], state, bytes(32), TRAIN)
    assert refused.value.code == "trainer.control"


def test_one_row_is_enough() -> None:
    one = Batch(np.ones((1, 3), np.float32), np.zeros((1, 0), np.int64), None, np.array([1]))
    shard = type(SHARD)("one", one, one.take(slice(0, 0)))
    made, _ = scaffold.train(logistic, shard, [START], b"", bytes(32), TRAIN)
    assert np.isfinite(made.groups["control"].tensors["bias"]).all()


def test_a_person_is_told_what_is_lost_and_only_of_what_should_be_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, UNINTERRUPTED)
    step = Step(
        index=3, kind=StepKind.TRAIN, round=2, participants=("p0",), inputs=("0" * 64,), quorum=1, deadline_s=9.0
    )
    keeps = {"scaffold": planned("scaffold"), "optimiser": planned("averaging", keep_optimizer=True)}
    for what, plan in keeps.items():
        assert not list(lacking(folder, plan, step, kept=False))
        assert not list(lacking(folder, plan, msgspec.structs.replace(step, kind=StepKind.EVALUATE), kept=True))
        (told,) = lacking(folder, plan, step, kept=True)
        assert "lost" in told
        assert ("control variate" if what == "scaffold" else "optimiser") in told
    assert not list(lacking(folder, planned("averaging"), step, kept=True))
    folder.local_state.write_bytes(pack_state({"control": {"w": torch.zeros(2)}}))
    assert not list(lacking(folder, keeps["scaffold"], step, kept=True))
