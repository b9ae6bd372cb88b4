"""What stays at a partner of every analysis: no count of few rows leaves, nor does one follow from what leaves beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from aimass.client.small_counts import withheld_cells
from aimass.explain.federated import confusion
from aimass.explain.federated.boxes import SIDES
from aimass.explain.federated.confusion import ConfusionOptions
from aimass.explain.federated.marginals import FINE
from aimass.explain.federated.sums import added
from aimass.explain.models import model_of_function
from aimass.explain.rows import Rows, features_of
from aimass.proto.analysis import Analysis, AtPartner, Summed, check_sums
from aimass.proto.asks import EXPLAIN, Ask, phase_at
from aimass.proto.contribution import Contribution, Group
from aimass.proto.manifest import Category
from tests.explain.federated.hospitals import TASK, at, hospitals
from tests.explain.federated.test_analyses import ALL, ask

Floats = npt.NDArray[np.float64]
Left = dict[str, Floats]
LEAST = 5
ASKED: dict[str, tuple[Analysis, Ask]] = {
    **{name: one for name, one in ALL.items() if name != "shapley"},  # (it has no table)
    "confusion of odd bins": (ALL["confusion"][0], ask({"bins": 15, "thresholds": "0.3"})),
    "prim of the low": (ALL["prim"][0], ask({"target": "label", "direction": "low", "bins": 16})),
}


def steps(analysis: Analysis, question: Ask, least: int) -> Iterator[tuple[int, list[Left], list[Left]]]:
    """Of each step its number, what partners computed, and what left them."""
    found: list[Summed] = []
    inputs: Mapping[str, Floats] | None = {}
    while inputs is not None:
        phase = phase_at(analysis.phases(question), len(found))
        made, left = [], []
        for one in at(hospitals()):
            sums = dict(analysis.compute(question, len(found), dataclasses.replace(one, inputs=inputs)))
            check_sums(phase, sums)
            whole = Contribution({EXPLAIN: Group(1.0, sums)}, {}, {})
            made.append(sums)
            left.append(dict(withheld_cells(whole, phase, least, rows_of(one)).groups[EXPLAIN].tensors))
        yield len(found), made, left
        found.append(Summed(added(left), tuple(map(str, range(len(left))))))
        inputs = analysis.next(question, found)


def rows_of(one: AtPartner) -> int:
    return len(one.rows.labels)


def told(whole: Floats | float, *parts: Floats | float) -> bool:
    """Whether a total that leaves gives away, less parts of it that leave, how many a few rows are."""
    over = np.asarray(whole) - sum(np.asarray(part) for part in parts)
    tells = np.asarray(whole) > 0
    tells &= np.any([np.broadcast_to(np.asarray(part) > 0, over.shape) for part in parts], axis=0)
    return bool((tells & (over > 0) & (over < LEAST)).any())


def of_all(left: Left, rows: int) -> list[bool]:
    """Tables of whichever analysis, beside the number of all rows."""
    tables = {"marginals": 1, "own": 1, "levels": 1, "cells": 1, "ways": 2, "moves": 2, "classes": 0}
    found = [told(rows, one) for name, one in left.items() if name in (*SIDES, "rows", "labels")]
    for name, axes in tables.items():
        if name in left:
            one = left[name]
            found.append(told(float(rows), one.reshape(*one.shape[:axes], -1).sum(axis=-1)))
    return found


def of_prim(left: Left, rows: int) -> list[bool]:
    return [told(left["searched"], left["levels"].sum(axis=1)), told(float(rows), *(left[side] for side in SIDES))]


def of_slices(left: Left, rows: int) -> list[bool]:
    if "searched" not in left:
        return []
    sides = [told(left[side], left[f"{side}_sizes"]) for side in ("searched", "judged")]
    return [*sides, told(float(rows), left["searched"], left["judged"])]


def of_confusion(left: Left, rows: int) -> list[bool]:
    """Of two classes the likelier one is known from the score."""
    found, edges = [], np.round(_edges(left), 12)
    for label in (0, 1):
        for side, some in enumerate((edges < 0.5, edges >= 0.5)):
            found.append(told(left["classes"][label, side], left["cells"][0, some, label].sum()))
    return found


def _edges(left: Left) -> Floats:
    options = [ask_.options for name, (_, ask_) in ASKED.items() if name.startswith("confusion")]
    found: list[Floats] = [
        np.unique(np.round([*np.linspace(0, 1, int(one["bins"]) + 1), float(one.get("thresholds", 0.5)), 0.5], 12))
        for one in options
    ]
    (edges,) = (one[:-1] for one in found if len(one) - 1 == left["cells"].shape[1])
    return edges


def of_pdp(left: Left, rows: int) -> list[bool]:
    if "ways" not in left:
        return []
    half = left["moves"].shape[-1] // 2
    return [
        told(left["ways"][..., way], left["moves"][..., some].sum(axis=-1))
        for way, some in ((0, slice(half)), (2, slice(half, None)))
    ]


RULES: dict[str, Callable[[Left, int], list[bool]]] = {
    "prim": of_prim,
    "slices": of_slices,
    "confusion": of_confusion,
    "pdp": of_pdp,
}


@pytest.mark.parametrize("name", ASKED)
def test_no_count_of_few_rows_leaves_nor_follows_from_a_total_beside_it(name: str) -> None:
    analysis, question = ASKED[name]
    kept = 0
    for number, made, left in steps(analysis, question, LEAST):
        for sums, one, partner in zip(made, left, at(hospitals()), strict=True):
            for cells in phase_at(analysis.phases(question), number).cells:
                if cells.counts:
                    counts = one[cells.name]
                    assert not ((counts > 0) & (counts < LEAST)).any(), cells.name
                    assert ((counts == 0) | (counts == sums[cells.name])).all(), cells.name
            rows = rows_of(partner)
            assert not any(of_all(one, rows)), number
            assert not any(RULES[analysis.name](one, rows) if analysis.name in RULES else []), number
            kept += sum(int(np.count_nonzero(array)) for array in one.values())
    assert kept > 20


def test_the_cells_of_a_curve_and_those_of_missing_values_never_tell_of_few_rows_together() -> None:
    """The first step may tell how many values are missing, whatever the second does."""
    analysis, question = ALL["ale"]
    missing: list[Floats] = []
    for number, made, left in steps(analysis, question, LEAST):
        if number == 0:
            missing = [_missing(one["marginals"]) for one in made]
            continue
        for one, absent, partner in zip(left, missing, at(hospitals()), strict=True):
            curve = one["cells"][:, :-2].sum(axis=1)
            assert not told(rows_of(partner) - absent, curve)
            assert not told(rows_of(partner) - absent, curve, one["cells"][:, -2])


def _missing(counts: Floats) -> Floats:
    at_ = [FINE if one.kind == "number" else len(one.values) for one in features_of(TASK.schema)]
    return counts[np.arange(len(at_)), at_]


@pytest.mark.parametrize("seed", range(6))
def test_of_several_classes_no_table_tells_of_few_rows_of_a_label(seed: int) -> None:
    """Three rows of one label stay, and so do those of the next, and whatever would tell either."""
    rng, names = np.random.default_rng(seed), ("red", "green", "blue")
    schema = msgspec.structs.replace(TASK.schema, label=Category(name="colour", values=names))
    question, rows = Ask(schema=schema, options={"bins": 4}), 39
    labels = np.repeat(np.arange(3), [3, 6, 30]) if seed == 0 else rng.choice(3, rows, p=[0.2, 0.3, 0.5])
    model = model_of_function(lambda values: rng.dirichlet(np.ones(3), len(values)), ["a"], list(names))
    sums = confusion.partial(ConfusionOptions(bins=4), model, Rows.of(np.zeros((rows, 1)), ["a"], labels))
    (phase,) = ALL["confusion"][0].phases(question)
    check_sums(phase, sums)
    left = withheld_cells(Contribution({EXPLAIN: Group(1.0, dict(sums))}, {}, {}), phase, LEAST, rows)
    one = dict(left.groups[EXPLAIN].tensors)
    assert not any(of_all(one, rows))
    cells, kept = one["cells"], one["labels"]
    if seed == 0:
        np.testing.assert_array_equal(kept, [0, 0, 30])
    assert not told(kept, one["classes"].sum(axis=1))
    assert not told(kept, cells[:, :, 1].sum(axis=1))
    assert not told(rows - kept, cells[:, :, 0].sum(axis=1))
    hidden = kept != sums["labels"]
    assert not cells[hidden].any()
    assert not one["classes"][hidden].any()


@pytest.mark.parametrize("shuffles", [1, 30])
def test_what_a_few_rows_rise_by_is_never_told_by_the_cell_that_they_drew(shuffles: int) -> None:
    """Nor is it left of all rises less those that are told."""
    analysis, question = ALL["permutation"][0], ask({"shuffles": shuffles, "loss": "brier"})
    few: Sequence[AtPartner] = at(tuple(dataclasses.replace(one, rows=one.rows.take(slice(30))) for one in hospitals()))
    counts = added(dict(analysis.compute(question, 0, one)) for one in few)
    phase = phase_at(analysis.phases(question), 1)
    small = 0
    for one in few:
        sums = dict(analysis.compute(question, 1, dataclasses.replace(one, inputs=counts)))
        np.testing.assert_allclose(sums["lent"].sum(axis=1), sums["rises"], atol=1e-9)
        drawn = sums["drawn"]
        if shuffles == 1:  # each row once
            np.testing.assert_array_equal(drawn.sum(axis=1), len(one.keys))
        whole = Contribution({EXPLAIN: Group(1.0, sums)}, {}, {})
        left = withheld_cells(whole, phase, LEAST, len(one.keys)).groups[EXPLAIN].tensors
        assert (drawn[left["lent"] != 0] >= LEAST).all()
        gone = (left["drawn"] == 0) & (drawn > 0)
        some = gone.any(axis=1) & (left["drawn"] > 0).any(axis=1)
        assert (np.where(gone, drawn, 0).max(axis=1)[some] >= LEAST).all()
        small += int(((drawn > 0) & (drawn < LEAST)).sum())
    assert small
