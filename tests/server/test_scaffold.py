"""SCAFFOLD against the paper's algorithm in plain numpy, on a convex problem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from aimass.proto.plan import Cohort, Plan, TrainSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.server.cohort import ask
from tests.support.convex import Model, Partner, Problem, partners, plan, simulated

TRAIN = TrainSettings(batch_size=8, learning_rate=0.2, epochs=2, weight="one", weight_decay=0.05)
SIZES = (20, 33, 9, 14)


def karimireddy(
    x: Model, of: Sequence[Partner], asked: Sequence[Sequence[str]], train: TrainSettings, eta: float
) -> Model:
    """Algorithm 1 with option II, line by line."""
    c, own = Model.zero(), {each.name: Model.zero() for each in of}
    for number, sampled in enumerate(asked, 1):
        moves, changes = Model.zero(), Model.zero()
        for each in (each for each in of if each.name in sampled):
            y, k = x, 0
            for rows in each.batches(number, train.batch_size, train.epochs, train.steps):
                g = each.gradient(y, rows) + train.weight_decay * y
                y, k = y - train.learning_rate * (g - own[each.name] + c), k + 1
            after = own[each.name] - c + 1 / (k * train.learning_rate) * (x - y)
            moves, changes = moves + (y - x), changes + (after - own[each.name])
            own[each.name] = after
        x, c = x + eta / len(sampled) * moves, c + 1 / len(of) * changes
    return x


def everybody(plan: Plan, of: Sequence[Partner]) -> list[tuple[str, ...]]:
    names, rounds = tuple(each.name for each in of), int(plan.stages[0].options["rounds"])
    return [ask(plan.cohort, plan.seed, number, names)[0] for number in range(1, rounds + 1)]


@pytest.mark.parametrize("eta", [1.0, 0.7])
@pytest.mark.parametrize("sample", [0, 2])
def test_rounds_are_the_papers_algorithm_with_all_partners_and_with_a_sample(
    tmp_path: Path, sample: int, eta: float
) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    made = plan("scaffold", TRAIN, 6, blobs, server_learning_rate=eta, fields={"cohort": Cohort(sample=sample)})
    start, asked = Model.read(Blob(blobs.open(made.model))), everybody(made, of)
    assert len(set(asked)) == (1 if not sample else 4)
    found = simulated(made, of, blobs)
    assert found.distance(karimireddy(start, of, asked, TRAIN, eta)) < 1e-12
    assert found.distance(start) > 0.1


def test_partners_with_equal_rows_and_whole_batches_go_where_federated_averaging_goes(tmp_path: Path) -> None:
    """No drift, so nothing to correct: e_i is e from the first round on."""
    blobs = FileBlobs(tmp_path)
    (one,) = partners([25], spread=1.0)
    same = [Partner(f"p{number}", one.x, one.y) for number in range(3)]
    train = msgspec.structs.replace(TRAIN, batch_size=25)
    ends = [simulated(plan(driver, train, 5, blobs), same, blobs) for driver in ("scaffold", "averaging")]
    assert ends[0].distance(ends[1]) < 1e-12


def test_where_partners_differ_it_comes_to_the_optimum_and_federated_averaging_does_not(tmp_path: Path) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=2.0)
    train = TrainSettings(batch_size=64, learning_rate=0.1, steps=8, weight="one", weight_decay=0.3)
    best = Problem(of, 0.3, [1.0] * len(of)).optimum
    off = {
        driver: simulated(plan(driver, train, 25, blobs), of, blobs).distance(best)
        for driver in ("scaffold", "averaging")
    }
    assert off["averaging"] > 0.05
    assert off["scaffold"] < 0.01 * off["averaging"], off
