"""The study that a plan belongs to, and the run of it that would cost most."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.dotted import with_settings
from aimass.proto.errors import BadInput
from aimass.proto.plan import PlanDraft, PrivacySettings, Stage, Study, costliest_run, decode_plan, encode_plan
from aimass.proto.plan_settings import TrainSettings
from aimass.proto.studies import study_digest

ID = "5" * 32
PRIVACY = PrivacySettings(noise_multiplier=2.0, clip=1.0, sampling_rate=0.1, delta=1e-5, divisor=10.0)
DRAFT = PlanDraft(
    name="t",
    task="heart",
    data_schema="heart/1",
    seed=1,
    stages=(Stage(driver="averaging", options={"rounds": 3}),),
    train=TrainSettings(batch_size=8, learning_rate=0.1, steps=4, weight="one"),
    privacy=PRIVACY,
)


def trial(**costliest: bool | int | float | str) -> PlanDraft:
    named = {name.replace("__", "."): value for name, value in costliest.items()}
    return msgspec.structs.replace(DRAFT, study=Study(id=ID, trials=20, costliest=named))


def test_a_study_keeps_its_settings_on_the_way_to_bytes_and_back() -> None:
    draft = trial(privacy__noise_multiplier=0.8, stages__0__options__rounds=10)
    plan = draft.complete("1" * 64, "0" * 64)
    again = decode_plan(encode_plan(plan))
    assert again.study == plan.study == draft.study
    assert again.study is not None
    assert study_digest(again.study) == study_digest(Study(id=ID, trials=20, costliest=dict(again.study.costliest)))
    assert study_digest(again.study) != study_digest(Study(id=ID, trials=21, costliest=again.study.costliest))


def test_the_costliest_run_has_the_settings_named_and_all_others_as_they_are() -> None:
    draft = trial(privacy__noise_multiplier=0.8, stages__0__options__rounds=10, train__steps=50)
    assert draft.study is not None
    dearest = costliest_run(draft, draft.study)
    assert dearest.study is None
    assert dearest.privacy == msgspec.structs.replace(PRIVACY, noise_multiplier=0.8)
    assert dearest.stages == (Stage(driver="averaging", options={"rounds": 10}),)
    assert dearest.train == msgspec.structs.replace(DRAFT.train, steps=50)
    assert msgspec.structs.replace(dearest, privacy=PRIVACY, stages=DRAFT.stages, train=DRAFT.train) == DRAFT


@pytest.mark.parametrize(
    ("costliest", "told"),
    [
        ({"privacy.noise_multiplier": -1.0}, "noise_multiplier"),
        ({"privacy.noise_multiplier": "little"}, "noise_multiplier"),
        ({"privacy.no_such": 1}, "no_such"),
        ({"secure.noise.multiplier": 1.0}, "secure.noise.multiplier"),
        ({"stages.1.options.rounds": 10}, "stages.1.options.rounds"),
        ({"stages.rounds": 10}, "stages.rounds"),
        ({"train.steps.more": 10}, "train.steps.more"),
        ({"train.gradient_clip": 1.0}, "gradient_clip"),
        ({"study.trials": 1}, "study"),
    ],
)
def test_a_costliest_run_that_is_no_plan_is_refused_before_anything_runs(
    costliest: dict[str, float | str], told: str
) -> None:
    with pytest.raises((BadInput, ValueError), match=told.replace(".", r"\.")):
        msgspec.convert(
            msgspec.to_builtins(DRAFT) | {"study": {"id": ID, "trials": 2, "costliest": costliest}}, PlanDraft
        )


@pytest.mark.parametrize("study", [{"id": "x", "trials": 2}, {"id": ID, "trials": 0}, {"id": ID, "trials": 10_001}])
def test_a_study_without_a_name_or_an_end_is_refused(study: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="study"):
        msgspec.convert(msgspec.to_builtins(DRAFT) | {"study": study}, PlanDraft)


def test_a_plan_that_was_written_before_there_were_studies_is_read_as_one_of_none() -> None:
    written = msgspec.to_builtins(DRAFT.complete("1" * 64, "0" * 64))
    del written["study"]
    assert decode_plan(msgspec.json.encode(written, order="sorted")).study is None


@given(steps=st.integers(1, 1000), noise=st.floats(0.1, 100), rounds=st.integers(1, 100))
def test_settings_are_put_where_their_names_say_and_nowhere_else(steps: int, noise: float, rounds: int) -> None:
    settings = {"train.steps": steps, "privacy.noise_multiplier": noise, "stages.0.options.rounds": rounds}
    changed = with_settings(DRAFT, settings)
    assert changed.train.steps == steps
    assert changed.privacy is not None
    assert changed.privacy.noise_multiplier == noise
    assert changed.stages[0].options["rounds"] == rounds
    back = {"train.steps": 4, "privacy.noise_multiplier": 2.0, "stages.0.options.rounds": 3}
    assert with_settings(changed, back) == DRAFT


def test_no_setting_changes_nothing_and_a_list_is_no_setting() -> None:
    assert with_settings(DRAFT, {}) == DRAFT
    with pytest.raises(BadInput, match="stages"):
        with_settings(DRAFT, {"stages": "all"})
