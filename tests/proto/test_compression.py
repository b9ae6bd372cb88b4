"""The form of a compressed update: masks that repeat, elements that are read anywhere, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.compression import (
    BLOCK,
    INDEX,
    SCALE,
    Codec,
    kept_count,
    mask_key,
    mask_places,
    run_lengths,
    sent_groups,
)
from aimass.proto.contribution import Contribution, Group, Limits, most_bytes, sliced
from aimass.proto.errors import BadInput
from aimass.proto.methods import STEPS, UPDATE
from aimass.proto.plan import Compress, decode_plan, encode_plan, read_plan_draft
from aimass.proto.sent import Sent, check_sent
from aimass.proto.tensors import Array

KEY = mask_key(3, 1)
MASK = Compress(sparsify="random-mask", one_in=4)
TOP = Compress(sparsify="top-k", one_in=4)
TOP_SMALL = Compress(sparsify="top-k", one_in=4, quantise="int8")
SMALL = Compress(quantise="int8")
COUNT = 2 * BLOCK + 10


def runs(one_in: int, count: int) -> slice:
    return slice(0, -(-count // one_in))


def test_masks_are_those_of_the_vectors() -> None:
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "compression.json").read_text())
    for vector in vectors:
        key, count, one_in = mask_key(vector["seed"], vector["round"]), vector["count"], vector["one_in"]
        assert mask_places(key, vector["tensor"], one_in, count, runs(one_in, count)).tolist() == vector["places"]


@given(st.integers(2, 256), st.integers(0, 2_000), st.data())
def test_a_mask_has_one_place_in_each_run_and_any_of_its_runs_can_be_drawn_alone(
    one_in: int, count: int, data: st.DataObject
) -> None:
    whole = mask_places(KEY, "w", one_in, count, runs(one_in, count))
    assert (whole // one_in == np.arange(len(whole))).all()
    assert (whole < count).all()
    first = data.draw(st.integers(0, len(whole)))
    last = data.draw(st.integers(first, len(whole)))
    assert (mask_places(KEY, "w", one_in, count, slice(first, last)) == whole[first:last]).all()


def test_masks_of_rounds_seeds_and_tensors_differ_and_keep_every_element_equally_often() -> None:
    def places(seed: int, round_: int, name: str) -> Array:
        return mask_places(mask_key(seed, round_), name, 8, 800, runs(8, 800))

    others = [places(1, 2, "w"), places(2, 1, "w"), places(1, 1, "v")]
    assert all((places(1, 1, "w") != other).any() for other in others)
    found = np.bincount(np.concatenate([places(1, round_, "w") % 8 for round_ in range(100)]), minlength=8)
    assert np.abs(found - 1_250).max() < 5 * 1_250**0.5


def test_what_is_kept_stands_for_all_of_its_run_the_last_one_too() -> None:
    assert run_lengths(4, 10, slice(0, 3)).tolist() == [4, 4, 2]


@pytest.mark.parametrize(
    ("compress", "groups"),
    [
        (MASK, {UPDATE: {"w": ("F32", (131,)), "n": ("I64", (2,)), "s": ("F64", (1,))}}),
        (
            TOP,
            {
                UPDATE: {"w": ("F32", (131,)), "n": ("I64", (2,)), "s": ("F64", (1,))},
                INDEX: {"w": ("U8", (131,)), "s": ("U8", (1,))},
            },
        ),
        (
            SMALL,
            {
                UPDATE: {"w": ("I8", (COUNT,)), "n": ("I64", (2,)), "s": ("I8", (1,))},
                SCALE: {"w": ("F32", (3,)), "s": ("F32", (1,))},
            },
        ),
    ],
    ids=["mask", "top-k", "int8"],
)
def test_an_update_becomes_what_the_plan_says_and_integers_stay(compress: Compress, groups: object) -> None:
    shapes = {"w": ("F32", (2, COUNT // 2)), "n": ("I64", (2,)), "s": ("F64", ())}
    assert sent_groups(compress, UPDATE, shapes) == groups


@given(st.integers(2, 256), st.integers(0, 1_000))
def test_top_k_keeps_at_least_the_share_that_it_says_of_each_block(one_in: int, count: int) -> None:
    kept = kept_count(Compress(sparsify="top-k", one_in=one_in), count)
    assert count / one_in <= kept <= count / one_in + count // BLOCK + 1


def sent(compress: Compress, **parts: Array) -> tuple[Sent, dict[str, dict[str, tuple[str, tuple[int, ...]]]]]:
    """A contribution of one tensor of `COUNT` elements, and what the server expects."""
    shapes = {"w": ("F32", (COUNT,))}
    groups = {name: Group(1.0, {"w": array}) for name, array in parts.items()}
    return Sent(Contribution(groups, {}, {}), Codec(compress, KEY, shapes)), sent_groups(compress, UPDATE, shapes)


def top(places: list[int]) -> Array:
    """An index with these places in each block; as many as a last block of ten elements has come last."""
    return np.array([*places, *places, 0, 5, 9], np.uint8)


ASCENDING = list(range(64))
ONES = np.ones(131, np.float32)


def test_a_good_update_passes_and_its_norm_is_that_of_what_it_stands_for() -> None:
    good, expected = sent(TOP, update=ONES, index=top(ASCENDING))
    check_sent(good, expected, Limits(norm=131**0.5))
    with pytest.raises(BadInput) as refused:
        check_sent(good, expected, Limits(norm=11.4))
    assert refused.value.code == "contribution.norm"


@pytest.mark.parametrize(
    ("compress", "parts", "code"),
    [
        (TOP, {"update": ONES[1:], "index": top(ASCENDING)}, "shape"),
        (TOP, {"update": ONES, "index": top(ASCENDING)[1:]}, "shape"),
        (TOP, {"update": ONES}, "groups"),
        (TOP, {"update": ONES, "index": top([0, *ASCENDING[:-1]])}, "index_order"),
        (TOP, {"update": ONES, "index": top(ASCENDING[::-1])}, "index_order"),
        (TOP, {"update": ONES, "index": np.append(top(ASCENDING)[:-1], np.uint8(10))}, "index_range"),
        (TOP, {"update": ONES, "index": top(ASCENDING).astype(np.int8)}, "shape"),
        (TOP, {"update": np.where(np.arange(131) == 7, np.nan, ONES), "index": top(ASCENDING)}, "not_finite"),
        (MASK, {"update": np.ones(COUNT, np.float32)}, "shape"),
        (SMALL, {"update": np.ones(COUNT, np.int8), "scale": np.array([1, -1, 1], np.float32)}, "scale"),
        (SMALL, {"update": np.ones(COUNT, np.int8), "scale": np.array([1, np.inf, 1], np.float32)}, "not_finite"),
        (SMALL, {"update": np.zeros(COUNT, np.int8), "scale": np.array([1, np.nan, 1], np.float32)}, "not_finite"),
        (SMALL, {"update": np.full(COUNT, -128, np.int8), "scale": np.array([1, 1, 1], np.float32)}, "levels"),
        (SMALL, {"update": np.full(COUNT, 127, np.int8), "scale": np.array([1e4, 1e4, 1e4], np.float32)}, "norm"),
        (TOP_SMALL, {"update": ONES.astype(np.int8), "index": top(ASCENDING)}, "groups"),
    ],
)
def test_what_is_no_compressed_update_is_refused_by_name(
    compress: Compress, parts: dict[str, Array], code: str
) -> None:
    made, expected = sent(compress, **parts)
    with pytest.raises(BadInput) as refused:
        check_sent(made, expected, Limits(norm=1e6))
    assert refused.value.code == f"contribution.{code}"


def test_what_is_sent_beside_a_compressed_update_has_the_same_limit() -> None:
    good, expected = sent(SMALL, update=np.zeros(COUNT, np.int8), scale=np.ones(3, np.float32))
    groups = {**good.contribution.groups, STEPS: Group(1.0, {"norm": np.array(1e7)})}
    made = dataclasses.replace(good, contribution=Contribution(groups, {}, {}))
    with pytest.raises(BadInput) as refused:
        check_sent(made, {**expected, STEPS: {"norm": ("F64", ())}}, Limits(norm=1e6))
    assert refused.value.code == "contribution.norm"


def test_a_scale_that_is_infinite_where_all_is_zero_is_refused_too() -> None:
    made, expected = sent(SMALL, update=np.zeros(COUNT, np.int8), scale=np.array([1, 1, 1], np.float32))
    check_sent(made, expected, Limits())
    packed = Codec(SMALL, KEY, {"w": ("F32", (COUNT,))}).packed(
        UPDATE, {UPDATE: {"w": np.zeros(COUNT, np.int8)}, SCALE: {"w": np.array([0, np.inf, 0], np.float32)}}, "w"
    )
    assert packed is not None
    with pytest.raises(BadInput) as refused:
        packed.check(sliced)
    assert refused.value.code == "contribution.scale"


def test_no_more_bytes_are_taken_than_a_compressed_update_has() -> None:
    shapes = {"w": ("F32", (1_000_000,))}
    plain, small = (most_bytes(groups, Limits(labels=0)) for groups in (
        {UPDATE: shapes}, sent_groups(Compress(sparsify="random-mask", one_in=100), UPDATE, shapes),
    ))  # fmt: skip
    assert small < 0.03 * plain


DRAFT = """
name = "t"
task = "heart"
data_schema = "heart/1"
seed = 1
[[stages]]
driver = "{driver}"
[train]
batch_size = 8
learning_rate = 0.1
steps = 1
weight = "one"
[cohort]
quorum = 3
{more}
[compress]
{compress}
"""


def test_a_plan_keeps_its_compression_on_the_way_from_toml_to_bytes_and_one_without_means_none() -> None:
    text = DRAFT.format(driver="averaging", more="", compress='sparsify = "top-k"\none_in = 32\nquantise = "int8"')
    plan = read_plan_draft(text).complete("1" * 64, "0" * 64)
    assert decode_plan(encode_plan(plan)).compress == Compress(sparsify="top-k", one_in=32, quantise="int8")
    assert plan.keeps_state
    bare = read_plan_draft(text.partition("[compress]")[0]).complete("1" * 64, "0" * 64)
    assert bare.compress is None
    assert not bare.keeps_state


@pytest.mark.parametrize(
    ("compress", "more", "driver", "said"),
    [
        ("", "", "averaging", "compresses nothing"),
        ("one_in = 4", "", "averaging", "one_in"),
        ('sparsify = "random-mask"', "", "averaging", "one_in"),
        ('sparsify = "random-mask"\none_in = 257', "", "averaging", "256"),
        ('sparsify = "top-k"\none_in = 4\nerror_feedback = false', "", "averaging", "never be sent"),
        ('quantise = "int8"', "[secure]", "averaging", "secure.bits"),
        ('sparsify = "top-k"\none_in = 4', "[secure]", "averaging", "random-mask"),
        ('quantise = "int8"', "", "scaffold", "control variate"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(compress: str, more: str, driver: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_plan_draft(DRAFT.format(driver=driver, more=more, compress=compress))
