"""An explanation in a simulation: the partners' own code and gate, and equal to the rows pooled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aimass.client.tasks.heart import task
from aimass.explain.federated import confusion
from aimass.proto.analysis import AtPartner
from aimass.proto.asking import ask_of
from aimass.proto.plan import read_plan_draft
from aimass.proto.sharding import Split
from aimass.proto.tensors import Blob
from tests.server.simulation.test_simulation import opened
from tests.support.explanations import found_in, pooled
from tests.support.simulations import begun, finished, shards_of

PLAN = """
name = "explained"
task = "heart"
data_schema = "heart/1"
seed = 5
[train]
batch_size = 16
learning_rate = 0.05
steps = 2
weight = "one"
[cohort]
quorum = 3
[[stages]]
driver = "averaging"
options = { rounds = 1 }
[[stages]]
driver = "explain"
options = { analysis = "confusion", bins = 4, least_count = 1 }
"""
SECURE = "[secure]\ncolluders = 0.0\nbits = 32\nreal_bound = 65536.0\n"


@pytest.mark.parametrize("more", ["", SECURE], ids=["plain", "secure"])
def test_the_model_that_a_run_trained_is_explained_over_all_its_partners(more: str, tmp_path: Path) -> None:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", argument="", partners=6, seed=2))
    folder = begun(tmp_path / "run", read_plan_draft(PLAN + more), shards)
    run = finished(folder)
    (statistics,) = (step.statistics for step in folder.committed() if step.statistics is not None)
    found, rows = found_in(statistics), pooled(opened(shards))
    whole = confusion.analysis.compute(
        ask_of(run.plan), 0, AtPartner.of(task, Blob(folder.blobs.open(run.model)), rows)
    )
    assert run.model != run.plan.model
    assert len(found.partners) == 6
    for name in ("cells", "classes"):
        np.testing.assert_array_equal(found.sums[name], whole[name])
    np.testing.assert_allclose(found.sums["scores"], whole["scores"], rtol=0, atol=1e-9)
