"""A draft is completed by its task; what no partner could do with the task's model is refused here."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from aimass.client.tasks.heart import task, trees
from aimass.proto.drafts import completed
from aimass.proto.errors import BadInput
from aimass.proto.plan import PlanDraft, Promote, Stage, TrainSettings
from aimass.proto.task import first_model, locate


def draft(name: str, *drivers: str) -> PlanDraft:
    return PlanDraft(
        name="first", task=name, data_schema="heart/1", seed=3,
        stages=tuple(Stage(driver=driver, options={}) for driver in drivers),
        train=TrainSettings(batch_size=1, learning_rate=0.3, steps=1),
    )  # fmt: skip


def test_a_draft_gets_the_digests_of_its_task_and_first_model_and_the_schema_where_columns_are_asked_about() -> None:
    plan, model = completed(draft("heart", "averaging"))
    assert model == first_model(task, 3)
    assert (plan.task.digest, plan.model) == (locate("heart").digest, hashlib.sha256(model).hexdigest())
    assert plan.schema is None
    plan, model = completed(draft("heart-trees", "histogram", "trees"))
    assert model == first_model(trees, 3)
    assert plan.schema == trees.schema


def test_a_model_that_is_to_be_published_has_its_schema_in_the_plan() -> None:
    """The server publishes without running the task, and nobody serves a model whose columns nobody knows."""
    wanted = msgspec.structs.replace(draft("heart", "averaging"), promote=Promote(model="heart", auto=True))
    for model in (None, first_model(task, 1)):
        plan, _ = completed(wanted, model)
        assert (plan.schema, plan.promote) == (task.schema, wanted.promote)


@pytest.mark.parametrize(
    ("name", "drivers", "said"),
    [
        ("heart-trees", ("averaging",), "train networks; got averaging"),
        ("heart-trees", ("trees", "personal"), "train networks; got personal"),
        ("heart", ("trees",), "grows models of trees, and the task's is another"),
        ("heart", ("histogram", "averaging", "trees"), "grows models of trees, and the task's is another"),
    ],
)
def test_a_driver_of_another_kind_of_model_is_refused_with_the_cure(
    name: str, drivers: tuple[str, ...], said: str
) -> None:
    for model in (None, first_model(trees if name == "heart-trees" else task, 1)):
        with pytest.raises(BadInput, match=said) as caught:
            completed(draft(name, *drivers), model)
        assert caught.value.code == "plan.trees"
        assert caught.value.cure
