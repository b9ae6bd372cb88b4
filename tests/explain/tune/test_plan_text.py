from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.tune.plan_text import written_plan
from aimass.proto.plan import Cohort, EarlyStop, Promote, Stage, Study, read_plan_draft
from tests.explain.tune.made import PRIVATE, draft


@pytest.mark.parametrize("more", ["", PRIVATE, PRIVATE + "[privacy.metrics]\nnoise_multiplier = 5.0\n"])
def test_a_plan_that_is_written_is_read_again(more: str) -> None:
    plan = msgspec.structs.replace(
        draft(more),
        cohort=Cohort(partners=("a", "b"), weights={"a": 2.0}, sample=2),
        early_stop=EarlyStop(metric='a"\\\u007f☺'),
        promote=Promote(model="m"),
        study=Study(id="a" * 32, trials=3, costliest={"train.steps": 4}),
    )
    assert read_plan_draft(written_plan(plan, ("a remark", "of two\nlines"))) == plan


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(
            st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text()
        ),
        max_size=4,
    )
)
def test_options_of_any_name_and_value_are_read_again(options: dict[str, bool | int | float | str]) -> None:
    plan = msgspec.structs.replace(draft(), stages=(Stage(driver="averaging", options=options),))
    assert read_plan_draft(written_plan(plan)) == plan


def test_what_is_usual_is_left_out() -> None:
    text = written_plan(draft())
    assert "options = { rounds = 4 }" in text
    assert "proximal_mu" not in text
    assert "evaluate" not in text
