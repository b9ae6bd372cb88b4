"""FedProx, which is federated averaging with `train.proximal_mu`, against the paper's objective in plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from aimass.proto.plan import TrainSettings
from aimass.proto.storage import FileBlobs
from tests.support.convex import Model, Partner, partners, plan, simulated

TRAIN = TrainSettings(batch_size=8, learning_rate=0.2, epochs=2, weight_decay=0.05, proximal_mu=0.4)
SIZES = (20, 33, 9)


def li(of: Sequence[Partner], rounds: int, train: TrainSettings) -> Model:
    """Li et al. 2020, Algorithm 2: inexact minima of h_k(w; w_t) = F_k(w) + mu/2 |w - w_t|^2, here by SGD from w_t."""
    server, total = Model.zero(), sum(len(each.y) for each in of)
    for number in range(1, rounds + 1):
        after = Model.zero()
        for each in of:
            w = server
            for rows in each.batches(number, train.batch_size, train.epochs, train.steps):
                h = each.gradient(w, rows) + train.weight_decay * w + train.proximal_mu * (w - server)
                w = w - train.learning_rate * h
            after = after + len(each.y) / total * w
        server = after
    return server


@pytest.mark.parametrize("mu", [0.0, 0.4, 4.0])
def test_rounds_minimise_the_papers_objective(tmp_path: Path, mu: float) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.5)
    train = msgspec.structs.replace(TRAIN, proximal_mu=mu)
    found = simulated(plan("averaging", train, 4, blobs), of, blobs)
    assert found.distance(li(of, 4, train)) < 1e-12
    other = msgspec.structs.replace(TRAIN, proximal_mu=mu + 0.2)
    assert found.distance(li(of, 4, other)) > 1e-3
