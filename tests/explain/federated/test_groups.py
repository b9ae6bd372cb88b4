"""No two questions of a search differ by fewer rows than the plan's least count: what an attacker may try, and fails at.

The attacker is the server. It may ask of any boxes and slices, in any order, and knows the rows but for what it is after.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.small_counts import withheld_cells
from aimass.explain.federated import prim, slices
from aimass.explain.federated.asking import bounded_model_at
from aimass.explain.federated.boxes import sides_of
from aimass.explain.federated.groups import grouped, told_in_groups
from aimass.explain.federated.marginals import marginals_of, uniforms
from aimass.explain.federated.seam import rows_at
from aimass.explain.federated.slice_search import predicate_table
from aimass.explain.federated.sums import Release
from aimass.explain.lineage import Lineage
from aimass.explain.rows import Feature, Rows, features_of
from aimass.proto.analysis import Analysis, AtPartner
from aimass.proto.asks import EXPLAIN, Ask, phase_at
from aimass.proto.contribution import Contribution, Group
from aimass.proto.rows import Batch
from tests.explain.federated.hospitals import TASK, at, hospitals
from tests.explain.federated.test_analyses import ask
from tests.explain.federated.test_prim import planted
from tests.explain.federated.together import together

Floats = npt.NDArray[np.float64]
LEAST = 5
FEATURES = (
    Feature(name="age", minimum=0.0, maximum=100.0),
    Feature(name="colour", kind="category", values=("red", "green", "blue")),
    Feature(name="size", minimum=-1.0, maximum=1.0),
)
BOXES = ask({"target": "label", "bins": 16})
SLICES = ask({"depth": 2, "cuts": 3, "least": 0.2, "at_once": 64})


def table(rows: int, seed: int) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Rows with missing cells, ties and a side each."""
    rng = np.random.default_rng(seed)
    columns = [rng.uniform(0, 100, rows).round(), rng.integers(0, 3, rows), rng.normal(0, 0.3, rows).clip(-1, 1)]
    values = np.stack(columns, axis=1).astype(np.float64)
    values[rng.random(values.shape) < 0.1] = np.nan
    return Rows(FEATURES, values), rng.integers(0, 3, rows)


def labels_of(groups: Rows, sides: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows that are told alike, and so are together whatever is asked."""
    cells = np.column_stack([np.nan_to_num(groups.values, nan=-9.0), sides])
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 90), seed=st.integers(0, 10**6), least=st.integers(1, 12))
def test_rows_are_told_in_groups_of_at_least_so_many_of_one_side(rows: int, seed: int, least: int) -> None:
    data, sides = table(rows, seed)
    found, kept = grouped(data, sides, least)
    if rows < least:
        assert (kept == -1).all() or not rows
        return
    if least == 1:
        np.testing.assert_array_equal(found.values, data.values)
        return
    _, counts = np.unique(labels_of(found, kept), return_counts=True)
    assert counts.min() >= least
    large = [side for side in np.unique(sides) if (sides == side).sum() >= least]
    assert all((kept[sides == side] == side).all() for side in large)
    order = np.random.default_rng(seed).permutation(rows)
    again, kept_again = grouped(data.take(order), sides[order], least)
    np.testing.assert_array_equal(again.values, found.values[order])
    np.testing.assert_array_equal(kept_again, kept[order])


def test_alike_rows_are_together_and_large_data_loses_little() -> None:
    data, _ = table(4_000, 1)
    sides = np.zeros(4_000, np.int64)
    found, _ = grouped(data, sides, LEAST)
    both = ~np.isnan(data.values) & ~np.isnan(found.values)
    for place, width in ((0, 100.0), (2, 2.0)):
        some = both[:, place]
        off = np.abs(found.values[some, place] - data.values[some, place])
        assert np.median(off) < 0.05 * width
    assert (found.values[:, 1] == data.values[:, 1])[both[:, 1]].mean() > 0.95


def odd_boxes(seed: int, count: int) -> Iterator[dict[str, Floats]]:
    """Any boxes: of single bins, all but one bin, nested or not, one after another."""
    rng, search = np.random.default_rng(seed), prim.search_of(BOXES)
    box = np.ones((1, len(search.columns), search.width))
    for _ in range(count):
        kind, place = rng.integers(0, 3), rng.integers(0, len(search.columns))
        if kind == 0:  # all but one bin of the last box
            box = box.copy()
            box[0, place, rng.integers(0, search.width)] = 0.0
        elif kind == 1:  # one half of a column
            box = np.ones_like(box)
            box[0, place, rng.integers(1, search.width) :] = 0.0
        else:
            box = (rng.random(box.shape) < 0.9).astype(np.float64)
        yield {"boxes": box}


def odd_slices(seed: int, count: int) -> Iterator[dict[str, Floats]]:
    """Any predicates that there are, and any slices of two."""
    rng = np.random.default_rng(seed)
    counts = slices.analysis.compute(SLICES, 0, at(hospitals())[0])["marginals"]
    lines = predicate_table(features_of(TASK.schema), marginals_of(TASK.schema, np.asarray(counts)), 3)
    for _ in range(count):
        yield {"predicates": lines, "slices": rng.integers(0, len(lines), (40, 2)).astype(np.float64)}


ATTACKS: dict[str, tuple[Analysis, Ask, Callable[[int, int], Iterator[dict[str, Floats]]]]] = {
    "prim": (prim.analysis, BOXES, odd_boxes),
    "slices": (slices.analysis, SLICES, odd_slices),
}


def told(analysis: Analysis, question: Ask, one: AtPartner, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """What leaves a partner in a later step, by the gate's own rule."""
    sums = dict(analysis.compute(question, 1, dataclasses.replace(one, inputs=inputs)))
    phase = phase_at(analysis.phases(question), 1)
    whole = Contribution({EXPLAIN: Group(1.0, sums)}, {}, {})
    left = withheld_cells(whole, phase, one.least, len(one.rows.labels)).groups[EXPLAIN].tensors
    return {name: np.asarray(array) for name, array in left.items()}


def fewest_peeled(one: AtPartner, seed: int) -> float:
    """The attacker takes bin after bin from a box: the fewest rows by which one step's count is not the last one's."""
    rng, search = np.random.default_rng(seed), prim.search_of(BOXES)
    box, steps = np.ones((1, len(search.columns), search.width)), []
    for _ in range(60):
        box = box.copy()
        box[0, rng.integers(0, len(search.columns)), rng.integers(0, search.width)] = 0.0
        left = told(prim.analysis, BOXES, one, {"boxes": box})
        steps.append(np.concatenate([left[name].reshape(-1) for name in ("searched", "chosen", "judged", "levels")]))
    return fewest(np.diff(np.stack(steps), axis=0))


def fewest_cut(one: AtPartner, seed: int) -> float:
    """The attacker asks of a slice and of the same with one condition more."""
    found = []
    for inputs in odd_slices(seed, 10):
        pairs = inputs["slices"]
        both = np.concatenate([pairs, np.repeat(pairs[:, :1], 2, axis=1)])[: int(SLICES.options["at_once"])]
        left = told(slices.analysis, SLICES, one, {**inputs, "slices": both})
        for side in ("searched", "judged"):
            sizes, count = left[f"{side}_sizes"], len(both) - len(pairs)
            found.append(sizes[len(pairs) : len(both)] - sizes[:count])
    return fewest(np.concatenate(found))


def fewest(apart: Floats) -> float:
    return float(np.abs(apart[apart != 0]).min())


@pytest.mark.parametrize("attack", [fewest_peeled, fewest_cut])
def test_no_two_questions_within_each_other_differ_by_few_rows(attack: Callable[[AtPartner, int], float]) -> None:
    """Of single rows the attacker finds one at once."""
    for seed, one in enumerate(at(hospitals())):
        assert attack(dataclasses.replace(one, least=LEAST), seed) >= LEAST
        assert attack(dataclasses.replace(one, least=1), seed) == 1


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_asked_nothing_tells_whose_label_in_a_group_is_whose(name: str, seed: int) -> None:
    """So no sum or difference of answers, of however many steps, is of fewer rows than a group."""
    analysis, question, attack = ATTACKS[name]
    whole = dataclasses.replace(at(hospitals())[seed], least=LEAST)
    changed = dataclasses.replace(whole, rows=swapped(analysis, question, whole, seed))
    assert (changed.rows.labels != whole.rows.labels).sum() > 5
    single = False
    for inputs in attack(seed, 25):
        one, other = (told(analysis, question, each, inputs) for each in (whole, changed))
        for tensor, sums in one.items():
            np.testing.assert_allclose(sums, other[tensor], rtol=0, atol=1e-9)
        apart = [told(analysis, question, dataclasses.replace(each, least=1), inputs) for each in (whole, changed)]
        single |= any((np.abs(sums - apart[1][tensor]) > 0.5).any() for tensor, sums in apart[0].items())
    assert single


def swapped(analysis: Analysis, question: Ask, one: AtPartner, seed: int) -> Batch:
    """The rows with what is summed of them dealt anew within each group: labels, where the model says the same."""
    rows = rows_at(question, one)
    sides = sides_of(one.keys, 0)
    if analysis.name == "slices":
        sides = (uniforms(one.keys, "slices", 0) >= 0.5).astype(np.int64)
    groups = labels_of(*grouped(rows, sides, LEAST))
    if analysis.name == "slices":  # the error hangs on what is predicted too
        groups = groups * 2 + bounded_model_at(question, one).predict(rows.values).argmax(axis=1)
    rng, labels = np.random.default_rng(seed), one.rows.labels.copy()
    for group in np.unique(groups):
        some = np.flatnonzero(groups == group)
        labels[some] = rng.permutation(labels[some])
    return dataclasses.replace(one.rows, labels=labels)


def test_the_gate_has_nothing_to_take_away_of_whole_groups() -> None:
    """Cells that it held back without them were most of a hospital's."""
    one = dataclasses.replace(at(hospitals())[0], least=LEAST)
    made = dict(prim.analysis.compute(BOXES, 0, one))
    phase = phase_at(prim.analysis.phases(BOXES), 0)
    left = withheld_cells(Contribution({EXPLAIN: Group(1.0, made)}, {}, {}), phase, LEAST, len(one.rows.labels))
    for name, sums in made.items():
        np.testing.assert_array_equal(left.groups[EXPLAIN].tensors[name], sums)
    assert made["searched"] + made["chosen"] + made["judged"] == len(one.rows.labels)
    few = AtPartner.of(TASK, one.model, one.rows.take(slice(4)), least=LEAST)
    assert not any(array.any() for array in prim.analysis.compute(BOXES, 0, few).values())


def test_a_planted_box_is_found_in_groups_as_well_and_its_edges_are_rough() -> None:
    question = ask({"target": "label", "boxes": 1})
    sizes = (900, 600)
    partners = [dataclasses.replace(planted(rows, seed, null=False), least=3) for seed, rows in enumerate(sizes)]
    found = together(prim.analysis, question, partners)
    release = Release(partners=2, group=3)
    result = prim.analysis.read(question, found, Lineage(model="heart", partners=2), release)
    first = result.regions[0]
    by_name = {one.feature.name: one for one in first.conditions}
    assert by_name["sex"].places == (1,)
    assert by_name["age"].low == pytest.approx(60, abs=15)
    assert first.confirmed
    assert first.judged.low is not None
    assert first.judged.low > (result.judged.high or 1.0)
    assert any("groups of at least 3 alike rows" in line for line in result.caveats)
    assert told_in_groups(1) == ()


def test_two_runs_with_other_seeds_differ_by_whole_groups_too() -> None:
    one = dataclasses.replace(at(hospitals())[0], least=LEAST)
    other = msgspec.structs.replace(BOXES, seed=BOXES.seed + 1)
    for name, sums in prim.analysis.compute(BOXES, 0, one).items():
        np.testing.assert_array_equal(prim.analysis.compute(other, 0, one)[name], sums)
