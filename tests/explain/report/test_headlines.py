"""What a report says of each answer in short: the sentences that mean something, and not those that happen to come first."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from aimass.explain import gap, lpi, prim, segviz
from aimass.explain.gap import GapResult
from aimass.explain.lpi.explaining import LpiResult
from aimass.explain.prim import PrimResult
from aimass.explain.report.markup import paragraphs
from aimass.explain.report.model_report import model_report
from aimass.explain.results import Result
from aimass.explain.segviz import SegvizResult
from tests.explain.prim.wards import classifier, uniform


def chance(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.where(values[:, 0] > 0.7, 0.9, np.where(values[:, 1] > 0.8, 0.6, 0.15))


@functools.cache
def answers() -> Mapping[str, Result]:
    """All four of a model that knows the truth but for one corner."""
    model, rows = classifier(3, chance), uniform(900, 3, 1, chance)
    return {"lpi": lpi.explain(model, rows), "gap": gap.explain(model, rows), "prim": prim.explain(model, rows),
            "segviz": segviz.explain(model, rows)}  # fmt: skip


def test_a_headline_is_a_sentence_of_the_answer_or_says_that_nothing_is_sure() -> None:
    for name, answer in answers().items():
        said = answer.headlines()
        assert 1 <= len(said) <= 6, name
        assert all(line in answer.describe() or "is confirmed on other rows (of" in line for line in said), name
    assert answers()["lpi"].views()["attribution"].headlines() == answers()["lpi"].describe()[:1]


def test_a_prediction_comes_with_what_moved_it_and_what_would_turn_it() -> None:
    found = answers()["lpi"]
    assert isinstance(found, LpiResult)
    assert found.counterfactual is not None
    assert found.headlines()[1].startswith("What moved it most: x2 = ")
    assert found.headlines()[2] == found.counterfactual.describe()[0]


def test_what_matters_most_is_named_with_the_widest_curve() -> None:
    found = answers()["gap"]
    assert isinstance(found, GapResult)
    assert found.headlines()[1].startswith("Shuffling x1 raises it")
    assert found.headlines()[2].startswith("From x1")


def test_bands_are_judged_before_they_are_counted() -> None:
    found = answers()["prim"]
    assert isinstance(found, PrimResult)
    assert found.headlines()[0].startswith(("In no band does the truth lie", "The model does not mean what it says"))


def test_of_boxes_the_first_that_is_confirmed_is_told() -> None:
    found = answers()["prim"]
    assert isinstance(found, PrimResult)
    first, second, *_ = found.boxes.regions
    ps = (msgspec.structs.replace(first, p=0.4), msgspec.structs.replace(second, p=0.001))
    some = msgspec.structs.replace(found.boxes, regions=ps)
    assert some.headlines() == (some.describe()[2],)
    unsure = msgspec.structs.replace(found.boxes, regions=ps[:1])
    (said,) = unsure.headlines()
    assert said == "No box in which predicted probability of yes looked high is confirmed on other rows (of 1)."
    nothing = msgspec.structs.replace(found.boxes, regions=())
    assert nothing.headlines() == ("No box stands out in which predicted probability of yes is high.",)


def test_of_kinds_of_rows_the_first_that_is_confirmed_is_told() -> None:
    found = answers()["segviz"]
    assert isinstance(found, SegvizResult)
    count = len(found.slices.says)
    assert count > 1
    sure = np.full(count, 0.9)
    (said,) = msgspec.structs.replace(found.slices, p=sure).headlines()
    assert said == f"No kind of rows where the model looked worst is confirmed on other rows (of {count})."
    sure[1] = 0.01
    some = msgspec.structs.replace(found.slices, p=sure)
    assert some.headlines() == (some.describe()[1],)


@pytest.mark.parametrize("name", ["lpi", "gap", "prim", "segviz"])
def test_the_report_has_them_in_short(name: str) -> None:
    report = model_report("known", answers())
    short = report[report.index("<h2>In short") : report.index("<h2>Why this prediction")]
    said = paragraphs([" ".join(answers()[name].headlines())]).removeprefix("<p>").removesuffix("</p>")
    assert said in short
