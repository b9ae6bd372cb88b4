from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.tune.sampler import suggested
from aimass.explain.tune.space import Space, check_space, read_space
from aimass.proto.dotted import with_settings
from aimass.proto.errors import BadInput
from aimass.proto.plan import read_plan_draft
from tests.explain.tune.made import PLAN, PRIVATE, draft, space


def of(settings: str, more: str = "") -> Space:
    return read_space(f'metric = "auc"\n{more}\n[settings]\n{settings}\n')


def test_a_setting_may_be_written_with_quotes_or_as_a_table_in_a_table() -> None:
    quoted = of('"train.learning_rate" = { low = 0.1, high = 1.0 }')
    assert quoted == of("train.learning_rate = { low = 0.1, high = 1.0 }")
    assert list(quoted.settings) == ["train.learning_rate"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("train.learning_rate = { low = 1.0, high = 1.0 }", "is empty"),
        ("train.learning_rate = { low = 1.0, high = 0.1 }", "is empty"),
        ("train.learning_rate = { low = 0.0, high = nan }", "is empty"),
        ("train.learning_rate = { low = 0.0, high = 1.0, log = true }", "`log` needs a `low` above 0"),
        ("train.learning_rate = { low = 0.1 }", "give `low` and `high`"),
        ("train.learning_rate = { low = 0.1, high = 0.2, step = 0.5 }", "longer than the range"),
        ("train.learning_rate = { low = 0.1, high = 0.2, lod = true }", "lod"),
        ("train.learning_rate = { choices = [0.1] }", "two or more"),
        ("train.learning_rate = { choices = [0.1, 0.1] }", "two or more"),
        ("train.learning_rate = { choices = [0.1, 0.2], low = 0.1 }", "go without"),
        ("train.learning_rate = 0.1", "`train.learning_rate` of the space"),
        ("", "length >= 1"),
    ],
)
def test_a_setting_that_has_nothing_to_search_is_refused_by_its_name(settings: str, says: str) -> None:
    with pytest.raises(BadInput) as raised:
        of(settings)
    assert says in raised.value.sentence()


def test_a_metric_of_which_nobody_knows_which_way_is_better_has_to_say_it() -> None:
    text = 'metric = "fun"\n{}\n[settings]\ntrain.momentum = {{ low = 0.0, high = 0.9 }}\n'
    with pytest.raises(BadInput, match=r'better = "higher"'):
        read_space(text.format(""))
    assert read_space(text.format('better = "lower"')).objective.sign == -1


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ("train.lr = { low = 0.1, high = 1.0 }", "tune.setting", "`train` has: batch_size, learning_rate"),
        ("cohort = { low = 0.1, high = 1.0 }", "tune.setting", "A plan has: name"),
        ("seed = { low = 1, high = 9 }", "tune.setting", "with its own seeds"),
        ("privacy.delta = { low = 1e-6, high = 1e-5 }", "tune.setting", "other deltas"),
        ("privacy.noise_multiplier = { low = 1.0, high = 2.0 }", "plan.no_setting", "write its section into the plan"),
        (
            "stages.0.options.algorithm = { choices = ['fedavg', 'fedadam'] }",
            "tune.setting",
            "does not name this option",
        ),
        ("stages.1.options.rounds = { low = 1, high = 9 }", "plan.no_setting", "0 to 0"),
        ("train.learning_rate = { low = 1.0, high = 10000.0 }", "value.invalid", "<= 1000.0"),
        ("train.batch_size = { low = 1.5, high = 8.0 }", "tune.range", "whole number"),
        ("train.optimizer = { low = 1.0, high = 2.0 }", "tune.range", "is no number"),
        ("train.optimizer = { choices = ['sgd', 'lion'] }", "value.invalid", "adam, sgd"),
        ("train.epochs = { low = 1, high = 3 }", "value.invalid", "either `epochs` or `steps`"),
        ("train.accumulate = { low = 1, high = 64 }", "value.invalid", "has no 64 parts"),
    ],
)
def test_what_the_plan_could_not_have_is_refused_before_anything_runs(settings: str, code: str, says: str) -> None:
    with pytest.raises(BadInput) as raised:
        check_space(of(settings), draft())
    assert raised.value.code == code
    assert says in raised.value.sentence()


def test_a_plan_that_measures_nothing_or_hides_the_metric_cannot_be_searched() -> None:
    momentum = "train.momentum = { low = 0.0, high = 0.9 }"
    with pytest.raises(BadInput) as raised:
        check_space(of(momentum), with_settings(draft(), {"evaluate.every": 0}))
    assert raised.value.code == "tune.evaluate"
    secure = read_plan_draft(PLAN.replace("quorum = 2", "quorum = 3") + "[secure]\nmetrics = ['loss']\n")
    with pytest.raises(BadInput) as raised:
        check_space(of(momentum), secure)
    assert raised.value.code == "tune.metric"
    with pytest.raises(BadInput) as raised:
        check_space(of(momentum, 'also = ["epsilon"]'), draft())
    assert raised.value.code == "tune.epsilon"
    check_space(of(momentum, 'also = ["epsilon"]'), draft(PRIVATE))


def test_a_range_is_of_whole_numbers_where_the_plan_takes_no_others_or_all_of_it_is_whole() -> None:
    found = of(
        "train.batch_size = { low = 8.0, high = 64.0 }\n"
        "train.momentum = { low = 0, high = 0.5 }\n"
        "train.learning_rate = { low = 1, high = 3 }\n"
        "stages.0.options.rounds = { low = 2, high = 6, step = 2 }\n"
        "stages.0.options.server_learning_rate = { low = 0.5, high = 2.0 }"
    )
    whole = {name: found.is_whole(name) for name in found.settings}
    assert whole == {
        "train.batch_size": True,
        "train.momentum": False,
        "train.learning_rate": False,
        "stages.0.options.rounds": True,
        "stages.0.options.server_learning_rate": False,
    }


@given(st.integers(0, 2**31), st.integers(0, 9))
def test_every_setting_that_is_spread_out_lies_in_its_range_and_makes_a_plan(seed: int, place: int) -> None:
    found = space()
    settings = suggested(found, [], 1, seed) if place == 0 else _after(found, place, seed)
    for name, setting in found.settings.items():
        value = settings[name]
        if setting.choices:
            assert value in setting.choices
        else:
            assert setting.low is not None
            assert setting.high is not None
            assert setting.low <= float(value) <= setting.high
            assert isinstance(value, int) == found.is_whole(name)
    assert with_settings(draft(), settings).train.batch_size == settings["train.batch_size"]


def _after(found: Space, place: int, seed: int) -> dict[str, bool | int | float | str]:
    from aimass.explain.tune.sampler import Seen

    seen: list[Seen] = []
    for _ in range(place):
        seen.append(Seen(settings=suggested(found, seen, 30, seed), values=(0.5,)))
    return suggested(found, seen, 30, seed)
