"""The forms in which trees leave: for XGBoost, for people; and whose columns they are named by."""

from __future__ import annotations

import json

import msgspec
import pytest
import xgboost

from aimass.client.tasks.heart import task as heart
from aimass.client.tasks.heart import trees
from aimass.proto.errors import BadInput, IntegrityError
from aimass.proto.model_forms import TreeForm, schema_of, tree_in_form
from aimass.proto.plan import Plan, PlanDraft, Stage, TrainSettings
from aimass.proto.task import first_model, locate
from aimass.proto.tensors import Blob
from aimass.proto.tree_text import described, text_of
from aimass.proto.trees import feature_columns


def plan(digest: str) -> Plan:
    draft = PlanDraft(
        name="heart", task="heart-trees", data_schema="heart/1", seed=1, stages=(Stage(driver="averaging"),),
        train=TrainSettings(batch_size=1, learning_rate=0.3, steps=1),
    )  # fmt: skip
    return draft.complete(digest, "0" * 64)


def test_trees_have_three_forms() -> None:
    model = Blob(first_model(trees, 1))
    whole = described(trees.empty(), trees.schema)
    assert tree_in_form("text", model, trees.schema).decode() == text_of(whole)
    assert msgspec.json.decode(tree_in_form("json", model, trees.schema), type=type(whole)) == whole
    booster = xgboost.Booster(model_file=bytearray(tree_in_form("xgboost", model, trees.schema)))
    assert booster.feature_names == [column.name for column in feature_columns(trees.schema)]
    assert json.loads(tree_in_form("json", model, trees.schema))["predicts"] == "disease"


@pytest.mark.parametrize("form", ["xgboost", "text", "json"])
def test_a_network_has_none_of_them(form: TreeForm) -> None:
    with pytest.raises(BadInput) as caught:
        tree_in_form(form, Blob(first_model(heart, 1)), heart.schema)
    assert (caught.value.code, caught.value.cure) == ("model.form", "Export it as safetensors.")


def test_columns_are_the_plans_own_else_the_installed_tasks() -> None:
    made = plan(locate("heart-trees").digest)
    assert schema_of(made) == trees.schema
    elsewhere = msgspec.structs.replace(made, task=msgspec.structs.replace(made.task, name="nowhere"))
    assert schema_of(msgspec.structs.replace(elsewhere, schema=trees.schema)) == trees.schema


def test_a_task_of_another_version_names_no_columns() -> None:
    with pytest.raises(IntegrityError) as caught:
        schema_of(plan("1" * 64))
    assert caught.value.code == "task.changed"
