"""A plan's promise of differential privacy: what it must say, and what it may not say beside it."""

from __future__ import annotations

import pytest

from aimass.proto.errors import BadInput
from aimass.proto.plan import DistributedNoise, PrivacySettings, decode_plan, encode_plan, read_plan_draft

PRIVACY = {"noise_multiplier": "1.1", "clip": "1.0", "sampling_rate": "0.01", "delta": "1e-5", "divisor": "60"}
TRAIN = {"batch_size": "32", "learning_rate": "0.1", "steps": "20", "weight": '"one"'}


def draft(privacy: dict[str, str], train: dict[str, str]) -> str:
    lines = [
        'name = "t"',
        'task = "heart"',
        'data_schema = "heart/1"',
        "seed = 1",
        "[[stages]]",
        'driver = "averaging"',
    ]
    for table, fields in (("privacy", privacy), ("train", train)):
        lines += [f"[{table}]", *(f"{name} = {value}" for name, value in fields.items())]
    return "\n".join(lines)


def test_a_private_plan_keeps_its_settings_on_the_way_from_toml_to_bytes() -> None:
    plan = read_plan_draft(draft(PRIVACY | {"cap_deviations": "6"}, TRAIN)).complete("1" * 64, "0" * 64)
    assert decode_plan(encode_plan(plan)).privacy == PrivacySettings(
        noise_multiplier=1.1, clip=1.0, sampling_rate=0.01, delta=1e-5, divisor=60.0, cap_deviations=6.0
    )


@pytest.mark.parametrize("name", ["noise_multiplier", "clip", "sampling_rate", "delta", "divisor"])
@pytest.mark.parametrize("value", ["0.0", "-1.0", "nan", "inf", '"much"'])
def test_a_number_that_promises_nothing_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        read_plan_draft(draft(PRIVACY | {name: value}, TRAIN))


@pytest.mark.parametrize(
    ("train", "what"),
    [
        ({"weight": '"rows"'}, "weight"),
        ({"gradient_clip": "1.0"}, "gradient_clip"),
        ({"accumulate": "2"}, "accumulate"),
        ({"checkpointing": "true"}, "checkpointing"),
        ({"steps": None, "epochs": "1"}, "steps"),
    ],
)
def test_settings_that_would_break_the_promise_are_refused(train: dict[str, str | None], what: str) -> None:
    fields = {name: value for name, value in (TRAIN | train).items() if value is not None}
    with pytest.raises(BadInput, match=what):
        read_plan_draft(draft(PRIVACY, fields))


@pytest.mark.parametrize(
    "extra", [{"sampling_rate": "1.01"}, {"delta": "1.0"}, {"cap_deviations": "4.9"}, {"unit": '"person"'}]
)
def test_rates_deltas_caps_and_units_out_of_range_are_refused(extra: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=next(iter(extra))):
        read_plan_draft(draft(PRIVACY | extra, TRAIN))


def test_the_cap_lies_the_stated_deviations_above_the_mean_and_never_above_the_rows() -> None:
    settings = PrivacySettings(noise_multiplier=1, clip=1, sampling_rate=0.01, delta=1e-5, divisor=1, cap_deviations=5)
    assert settings.cap(60_000) == 600 + 122  # sqrt(600 * 0.99) = 24.37
    assert settings.cap(10) == 2
    assert settings.cap(1) == 1


PERSONS = PRIVACY | {"unit": '"person"', "rows_per_person": "4"}


def test_a_plan_for_persons_says_how_many_of_ones_rows_count_and_holds_them_in_memory_together() -> None:
    assert read_plan_draft(draft(PERSONS, TRAIN)).privacy.rows_per_person == 4  # type: ignore[union-attr]
    read_plan_draft(draft(PERSONS | {"rows_per_person": "32"}, TRAIN))
    with pytest.raises(BadInput, match=r"rows_per_person` 33 is more than the 32 rows of `train\.batch_size`"):
        read_plan_draft(draft(PERSONS | {"rows_per_person": "33"}, TRAIN))
    with pytest.raises(BadInput, match="rows_per_person"):
        read_plan_draft(draft(PRIVACY | {"rows_per_person": "4"}, TRAIN))


NOISE = {"multiplier": "6.4", "clip": "1.0", "delta": "1e-5", "members": "10"}
SECURE = {"min_cohort": "9", "colluders": "0.1"}


def noised(secure: dict[str, str], noise: dict[str, str], train: dict[str, str]) -> str:
    lines = [draft({}, train).replace("[privacy]\n", "")]
    lines += ["[cohort]", "quorum = 9"]
    for table, fields in (("secure", secure), ("secure.noise", noise)):
        lines += [f"[{table}]", *(f"{name} = {value}" for name, value in fields.items())]
    return "\n".join(lines)


def test_a_plan_with_noise_inside_its_sums_keeps_it_on_the_way_to_bytes() -> None:
    plan = read_plan_draft(noised(SECURE, NOISE, TRAIN)).complete("1" * 64, "0" * 64)
    secure = decode_plan(encode_plan(plan)).secure
    assert secure is not None
    assert secure.noise == DistributedNoise(multiplier=6.4, clip=1.0, delta=1e-5, members=10)


@pytest.mark.parametrize(
    ("secure", "noise", "train", "what"),
    [
        ({}, {"multiplier": "0.0"}, {}, "multiplier"),
        ({}, {"multiplier": "nan"}, {}, "multiplier"),
        ({}, {"clip": "-1.0"}, {}, "clip"),
        ({}, {"delta": "0.2"}, {}, "delta"),
        ({}, {"members": "8"}, {}, "members"),
        ({}, {"kind": '"laplace"'}, {}, "laplace"),
        ({}, {}, {"weight": '"rows"'}, "weight"),
        ({"groups": "3", "min_cohort": "3"}, {}, {}, "one group"),
    ],
)
def test_noise_inside_sums_that_would_not_be_what_is_accounted_is_refused(
    secure: dict[str, str], noise: dict[str, str], train: dict[str, str], what: str
) -> None:
    with pytest.raises(BadInput, match=what):
        read_plan_draft(noised(SECURE | secure, NOISE | noise, TRAIN | train))
