"""FedNova against the paper's equations in plain numpy, on a convex problem with partners of different speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.methods import step_norm
from aimass.proto.plan import TrainSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.server.simulate import simulate
from tests.support.convex import Model, Partner, Problem, logistic, partners, plan, simulated
from tests.support.convex import slow as trainees

EPOCHS = TrainSettings(batch_size=8, learning_rate=0.2, epochs=2, weight_decay=0.05)
STEPS = TrainSettings(batch_size=8, learning_rate=0.2, steps=6, fewer_steps=True)
SIZES = (20, 33, 9, 14)
SLOW = {"p1": 2, "p3": 4}


def wang(
    x: Model, of: Sequence[Partner], rounds: int, train: TrainSettings, slow: Mapping[str, int], eta: float = 1.0
) -> Model:
    """Section 5, with each partner's a_i found by counting what of each gradient is in its way."""
    total = sum(len(each.y) for each in of)
    for number in range(1, rounds + 1):
        mean, effective = Model.zero(), 0.0
        for each in of:
            y, v, k = x, Model.zero(), 0
            for rows in each.batches(number, train.batch_size, train.epochs, slow.get(each.name, train.steps)):
                g = each.gradient(y, rows) + train.weight_decay * y + train.proximal_mu * (y - x)
                v = train.momentum * v + g
                y, k = y - train.learning_rate * v, k + 1
            p, a = len(each.y) / total, counted(train, k)
            mean, effective = mean + p / a * (y - x), effective + p * a
        x = x + eta * effective * mean
    return x


def counted(train: TrainSettings, steps: int) -> float:
    """||a||_1: the way of a partner whose every gradient is -1, in units of the learning rate."""
    way, v = 0.0, 0.0
    for _ in range(steps):
        v = train.momentum * v + 1.0 - train.proximal_mu * train.learning_rate * way
        way += v
    return way


@pytest.mark.parametrize(
    ("train", "slow", "eta"),
    [
        (EPOCHS, {}, 1.0),
        (msgspec.structs.replace(EPOCHS, fewer_steps=True), SLOW, 0.7),
        (STEPS, SLOW, 1.0),
        (msgspec.structs.replace(STEPS, momentum=0.8), SLOW, 1.0),
        (msgspec.structs.replace(STEPS, proximal_mu=0.5), SLOW, 1.0),
    ],
    ids=["epochs over shards of different size", "epochs cut", "steps cut", "momentum", "proximal"],
)
def test_rounds_are_those_of_the_paper_whoever_does_how_many_steps(
    tmp_path: Path, train: TrainSettings, slow: Mapping[str, int], eta: float
) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    made = plan("fednova", train, 5, blobs, server_learning_rate=eta)
    start = Model.read(Blob(blobs.open(made.model)))
    found = simulated(made, of, blobs, trainees=trainees(slow))
    assert found.distance(wang(start, of, 5, train, slow, eta)) < 1e-12
    assert found.distance(start) > 0.1


@given(st.integers(1, 200), st.floats(0, 0.99), st.floats(0, 1.9))
def test_the_weight_of_steps_is_what_their_recursion_counts(steps: int, momentum: float, mu: float) -> None:
    for train in (TrainSettings(batch_size=1, learning_rate=0.5, steps=1, momentum=momentum),
                  TrainSettings(batch_size=1, learning_rate=0.5, steps=1, proximal_mu=mu)):  # fmt: skip
        assert step_norm(train, steps) == pytest.approx(counted(train, steps), rel=1e-6)


@pytest.mark.parametrize("change", [{}, {"momentum": 0.8}, {"proximal_mu": 0.3}, {"weight": "one"}])
def test_where_all_do_the_same_steps_it_is_federated_averaging(tmp_path: Path, change: dict[str, object]) -> None:
    """Bit for bit where steps are plain; to rounding with momentum or FedProx, whose weights are no whole numbers."""
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    train = msgspec.structs.replace(STEPS, fewer_steps=False, **change)
    shards = [each.shard for each in of]
    nova, plain = (
        simulate(plan(driver, train, 4, blobs), logistic, shards, blobs) for driver in ("fednova", "averaging")
    )
    ends = [Model.read(Blob(blobs.open(made.model))) for made in (nova, plain)]
    assert ends[0].distance(ends[1]) < 1e-14
    if not train.momentum and not train.proximal_mu:
        assert nova.model == plain.model


def test_slow_partners_do_not_move_its_optimum_as_they_do_that_of_federated_averaging(tmp_path: Path) -> None:
    """With small steps what is left of the difference is that of the objective, which the paper is about."""
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    train = TrainSettings(batch_size=64, learning_rate=0.025, epochs=12, weight_decay=0.3, fewer_steps=True)
    slow = {"p0": 1, "p1": 1}
    best = Problem(of, 0.3, [float(size) for size in SIZES]).optimum
    nova = simulated(plan("fednova", train, 40, blobs), of, blobs, trainees=trainees(slow))
    x = Model.zero()
    for number in range(1, 41):  # the same partners, averaged as they are
        x = x + _mean([(len(each.y), _local(x, each, number, train, slow.get(each.name, 12)) - x) for each in of])
    assert x.distance(best) > 0.1
    assert nova.distance(best) < 0.3 * x.distance(best), (nova.distance(best), x.distance(best))


def _local(x: Model, of: Partner, number: int, train: TrainSettings, steps: int) -> Model:
    for rows in of.batches(number, train.batch_size, None, steps):
        x = x - train.learning_rate * (of.gradient(x, rows) + train.weight_decay * x)
    return x


def _mean(parts: Sequence[tuple[float, Model]]) -> Model:
    total = Model.zero()
    for weight, part in parts:
        total = total + weight / sum(w for w, _ in parts) * part
    return total
