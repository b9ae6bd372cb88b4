"""A model that goes from shard to shard is trained by each in turn, to the bits of a loop over the shards."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.errors import BadInput
from aimass.proto.plan import EvaluateSettings, PlanDraft
from aimass.proto.sharding import Split, manifest_of
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.drivers.cyclic import driver
from aimass.server.drivers.moments import stepped
from aimass.server.drivers.optimisers import rule_of
from aimass.server.simulate import simulate
from aimass.server.simulation.begin import completed
from tests.support.simulations import heart_draft, shards_of


def cyclic(rounds: int = 2, more: str = "", cohort: str = "quorum = 1") -> PlanDraft:
    draft = heart_draft(more, train="steps = 2", cohort=cohort, rounds=rounds)
    return msgspec.structs.replace(draft, stages=(msgspec.structs.replace(draft.stages[1], driver="cyclic"),))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    folder = shards_of(tmp_path_factory.mktemp("cyclic") / "shards", "heart", Split(rule="iid", partners=3, seed=2))
    made = []
    for name in ("p0001", "p0002", "p0003"):
        with (folder / name / "heart.parquet").open("rb") as file:
            made.append(open_shard(task.schema, manifest_of(folder, name), [file])[0])
    return made


def test_each_shard_trains_what_the_one_before_it_made(tmp_path: Path, shards: list[Shard]) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    plan, steps = completed(cyclic(), blobs), list[Step]()
    model = simulate(plan, task, shards, blobs, steps.append).model
    trained = [step for step in steps if step.kind is StepKind.TRAIN]
    assert [step.participants for step in trained] == [("p0001",), ("p0002",), ("p0003",)] * 2
    assert [step.round for step in trained] == [1, 1, 1, 2, 2, 2]
    assert [step.kind for step in steps].count(StepKind.EVALUATE) == 2
    by_hand, trainee, models = plan.model, Trainee(task), ModelStore(blobs)
    for step, shard in zip(trained, [*shards, *shards], strict=True):
        assert step.inputs == (by_hand,)
        made = trainee.do(order_of(plan, step, shard.participant), shard, [Blob(blobs.open(by_hand))], b"").contribution
        by_hand = stepped(rule_of(plan.stages[0]), by_hand, "", SpooledSums([made]), models)
    assert by_hand == model != first_model_digest(plan.seed, tmp_path)


def first_model_digest(seed: int, tmp_path: Path) -> str:
    return FileBlobs(tmp_path / "first").put([first_model(task, seed)])


def test_a_sample_of_shards_takes_its_turns(tmp_path: Path, shards: list[Shard]) -> None:
    blobs, steps = FileBlobs(tmp_path / "blobs"), list[Step]()
    draft = msgspec.structs.replace(cyclic(4, cohort="quorum = 1\nsample = 2"), evaluate=EvaluateSettings(every=0))
    simulate(completed(draft, blobs), task, shards, blobs, steps.append)
    rounds = [[step.participants[0] for step in steps if step.round == round_] for round_ in (1, 2, 3, 4)]
    assert all(len(names) == 2 and names == sorted(names) for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


@pytest.mark.parametrize("what", ["secure", "rule"])
def test_what_needs_others_in_a_sum_is_refused(tmp_path: Path, what: str) -> None:
    more = "[secure]\nmin_cohort = 3\nmax_weight = 200\n" if what == "secure" else ""
    draft = cyclic(more=more, cohort="quorum = 3")
    if what == "rule":
        stage = msgspec.structs.replace(draft.stages[0], options={"rounds": 1, "rule": "median", "tolerated": 1})
        draft = msgspec.structs.replace(draft, stages=(stage,))
    plan = completed(draft, FileBlobs(tmp_path / "blobs"))
    with pytest.raises(BadInput) as caught:
        driver.check(plan, plan.stages[0])
    assert (caught.value.code, caught.value.value) == ("plan.cyclic", what)
