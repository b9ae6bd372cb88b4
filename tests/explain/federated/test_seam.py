"""Views over models and rows as analyses at partners: the same sums, and what the plan says of them holds."""

import numpy as np

from aimass.explain.federated import confusion
from aimass.explain.federated.seam import model_at, rows_at
from aimass.explain.rows import Rows
from aimass.proto.analysis import AtPartner, check_sums
from aimass.proto.asks import Ask
from aimass.proto.tensors import Blob
from tests.explain.federated.hospitals import TASK, hospitals

ASK = Ask(schema=TASK.schema, options={"bins": 5})


def partner(rows: Rows) -> AtPartner:
    return AtPartner.of(TASK, Blob(TASK.first(0)), rows.batch())


def test_a_batch_becomes_the_rows_that_it_was_made_of() -> None:
    rows = hospitals()[0].rows
    found = rows_at(ASK, partner(rows))
    np.testing.assert_array_equal(found.values, rows.values)
    np.testing.assert_array_equal(found.need_labels(), rows.need_labels())
    assert (found.features, found.classes) == (rows.features, rows.classes)


def test_the_sums_of_an_analysis_are_what_its_phase_says() -> None:
    for hospital in hospitals():
        at = partner(hospital.rows)
        sums = confusion.analysis.compute(ASK, 0, at)
        (phase,) = confusion.analysis.phases(ASK)
        check_sums(phase, sums)
        options = confusion.ConfusionOptions(bins=5)
        for name, one in confusion.partial(options, model_at(at), rows_at(ASK, at)).items():
            np.testing.assert_array_equal(sums[name], one)


def test_no_rows_add_zeros() -> None:
    at = partner(hospitals()[0].rows.take(slice(0, 0)))
    sums = confusion.analysis.compute(ASK, 0, at)
    check_sums(confusion.analysis.phases(ASK)[0], sums)
    assert not any(one.any() for one in sums.values())
