"""The plan of a run with a Flower app."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from aimass.proto.app_config import parse_config
from aimass.proto.app_plan import AppDraft, app_plan, initial_arrays, read_app_draft
from aimass.proto.apps import App, read_app, run_config
from aimass.proto.commands import main
from aimass.proto.errors import BadInput
from aimass.proto.hashing import digest_of
from aimass.proto.plan import (
    Cohort,
    DistributedNoise,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TaskRef,
    decode_plan,
    encode_plan,
    planned_steps,
)
from aimass.proto.step import StepKind
from aimass.proto.tensors import Array, Blob, encode_numpy, encode_torch
from aimass.proto.values import convert
from tests.proto.test_apps import write


@pytest.fixture
def app(tmp_path: Path) -> App:
    return read_app(write(tmp_path))


def test_without_a_word_beside_it_an_app_is_a_whole_plan(app: App) -> None:
    plan, model = app_plan(app, AppDraft(), {})
    assert plan.task == TaskRef(name="tiny-app", digest=app.digest, kind="app")
    assert plan.stages == (Stage(driver="flower", options={"rounds": 3}),)
    assert (plan.name, plan.data_schema, plan.seed) == ("tiny-app", "tiny-app/1", 0)
    assert not Blob(model).layout.tensors
    assert decode_plan(encode_plan(plan)) == plan


def test_values_stand_in_the_plan_and_make_the_run_config_on_both_sides(app: App) -> None:
    plan, _ = app_plan(app, AppDraft(), {"optimiser.lr": 0.5, "num-server-rounds": 7})
    (stage,) = plan.stages
    assert stage.options == {"rounds": 7, "config.optimiser.lr": 0.5, "config.num-server-rounds": 7}
    assert run_config(app, stage.options) == {**app.config, "optimiser.lr": 0.5, "num-server-rounds": 7}
    with pytest.raises(BadInput, match="no such key"):
        app_plan(app, AppDraft(), {"rate": 0.5})


def test_what_a_person_writes_goes_into_the_plan(app: App) -> None:
    text = (
        'name = "try"\ndata_schema = "rows/2"\nseed = 9\nrounds = 5\n[cohort]\nquorum = 3\n[secure]\nmin_cohort = 3\n'
    )
    plan, _ = app_plan(app, read_app_draft(text, "the plan"), {})
    assert (plan.name, plan.data_schema, plan.seed, plan.cohort.quorum) == ("try", "rows/2", 9, 3)
    assert plan.secure == SecureSettings(min_cohort=3)
    assert plan.stages[0].options["rounds"] == 5
    with pytest.raises(BadInput, match="train"):
        read_app_draft("[train]\nsteps = 1\n", "the plan")


def test_rounds_bound_training_evaluation_and_queries(app: App) -> None:
    plan, _ = app_plan(app, AppDraft(), {})
    for kind, purpose in ((StepKind.TRAIN, ""), (StepKind.EVALUATE, ""), (StepKind.QUERY, "flower")):
        assert planned_steps(plan, kind, purpose) == 3
    assert planned_steps(plan, StepKind.ANALYSE, "statistics") == 0


@pytest.mark.parametrize("said", [0, -1, True, "3", 1.5])
def test_an_app_whose_rounds_nobody_says_is_told_where_to_say_them(app: App, said: bool | int | float | str) -> None:
    silent = dataclasses.replace(app, config={"num-server-rounds": said})
    with pytest.raises(BadInput, match="--rounds"):
        app_plan(silent, AppDraft(), {})
    assert app_plan(silent, AppDraft(rounds=2), {})[0].stages[0].options == {"rounds": 2}


def test_an_app_without_one_half_is_refused(app: App) -> None:
    with pytest.raises(BadInput, match="no serverapp"):
        app_plan(dataclasses.replace(app, server_app=""), AppDraft(), {})


def test_noise_in_the_sum_counts_every_partner_as_one(app: App) -> None:
    noise = DistributedNoise(multiplier=1.0, clip=1.0, delta=1e-3, members=3)
    draft = AppDraft(cohort=Cohort(quorum=3), secure=SecureSettings(noise=noise))
    assert app_plan(app, draft, {})[0].train.weight == "one"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stages": [{"driver": "averaging"}]}, "flower"),
        ({"stages": [{"driver": "flower"}, {"driver": "flower"}]}, "one stage"),
        ({"task": {"name": "tiny-app", "digest": "0" * 64}}, "flower"),
        (
            {"privacy": msgspec.to_builtins(
                PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.1, delta=1e-5, divisor=10.0)
            )},
            "secure.noise",
        ),
    ],
)  # fmt: skip
def test_a_plan_mixes_no_app_with_what_only_tasks_have(app: App, change: dict[str, object], told: str) -> None:
    fields = msgspec.to_builtins(app_plan(app, AppDraft(), {})[0])
    with pytest.raises(BadInput, match=told):
        convert(Plan, fields | change, "the plan")


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        ([], {}),
        (["a=1 b=false"], {"a": 1, "b": False}),
        (["a=1", "b.c='x y' d=\"z\" e=0.5"], {"a": 1, "b.c": "x y", "d": "z", "e": 0.5}),
        (["a=1", "a=2"], {"a": 2}),
    ],
)
def test_values_are_read_as_flower_reads_them(texts: list[str], values: dict[str, object]) -> None:
    assert parse_config(texts, "--run-config") == values
    flower = pytest.importorskip("flwr.common.config")
    assert flower.parse_config_args(texts) == values


def test_a_file_of_values_is_read_as_flower_reads_it(tmp_path: Path) -> None:
    flower = pytest.importorskip("flwr.common.config")
    path = tmp_path / "values.toml"
    path.write_text('a = 1\n[b]\nc = "x"\n')
    assert parse_config([str(path)], "--run-config") == flower.parse_config_args([str(path)]) == {"a": 1, "b.c": "x"}


@pytest.mark.parametrize("texts", [["a"], ["a=1 b"], ["a=x"], ["a=[1]"], ["a=1", "values.toml"], ["a=nan"]])
def test_values_that_are_none_are_told(texts: list[str]) -> None:
    with pytest.raises(BadInput, match="--run-config cannot be read"):
        parse_config(texts, "--run-config")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a plan, or an app"),
        (["plan.toml", "--run-config", "a=1"], "go with an app"),
        (["plan.toml", "--rounds", "2"], "go with an app"),
        (["--flower", "APP", "--run-config", "a"], "--run-config cannot be read"),
        (["absent.toml", "--flower", "APP"], "no such file"),
    ],
)
def test_a_submission_that_names_neither_plan_nor_app_is_told_what_to_type(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "app")
    typed = [str(tmp_path / "app") if each == "APP" else each for each in arguments]
    assert main(["run", "submit", *typed, "--as", str(tmp_path)]) != 0
    assert told in capsys.readouterr().err


def test_a_first_model_is_the_plans_whoever_wrote_its_file(app: App, tmp_path: Path) -> None:
    arrays: dict[str, Array] = {"b": np.ones((2, 2), np.float32), "a": np.zeros(3)}
    save_file(arrays, tmp_path / "first.safetensors", {"format": "pt"})
    plan, model = app_plan(app, AppDraft(), {}, initial_arrays(tmp_path / "first.safetensors"))
    assert plan.model == digest_of([model])
    assert {name: array.tolist() for name, array in Blob(model).arrays().items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_what_is_no_first_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "first.safetensors"
    file.write_bytes(b"PK\x03\x04 no model at all")
    with pytest.raises(BadInput, match="inside its header"):
        initial_arrays(file)
    file.write_bytes(encode_torch({"half": torch.zeros(2, dtype=torch.bfloat16)}))
    with pytest.raises(BadInput, match="bfloat16"):
        initial_arrays(file)
    file.write_bytes(encode_numpy({}))
    with pytest.raises(BadInput, match="no array"):
        initial_arrays(file)
