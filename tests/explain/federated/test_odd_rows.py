"""Rows that are few, missing, constant or of one class: an answer that says so, and never a failure or a wrong picture."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from aimass.explain.federated.seam import FederatedView
from aimass.explain.federated.sums import Release
from aimass.explain.lineage import Lineage
from aimass.proto.analysis import AtPartner
from aimass.proto.errors import BadInput
from aimass.proto.rows import Batch
from tests.explain.federated.hospitals import at, hospitals
from tests.explain.federated.test_analyses import ALL
from tests.explain.federated.together import together


def changed(partner: AtPartner, batch: Batch) -> AtPartner:
    return AtPartner.of(partner.task, partner.model, batch)


def taken(rows: int) -> Batch:
    return at((hospitals()[0],))[0].rows.take(slice(rows))


ODD = {
    "two rows": taken(2),
    "nothing known": dataclasses.replace(
        taken(40), numbers=np.full_like(taken(40).numbers, np.nan), categories=np.full_like(taken(40).categories, -1)
    ),
    "constant": dataclasses.replace(
        taken(40), numbers=np.ones_like(taken(40).numbers), categories=np.zeros_like(taken(40).categories)
    ),
    "one class": dataclasses.replace(taken(40), labels=np.zeros(40, np.int64)),
    "beyond the bounds": dataclasses.replace(taken(40), numbers=np.full_like(taken(40).numbers, 1e6)),
    "no rows": taken(0),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("shapley")])
def test_an_answer_is_given_of_odd_rows(name: str, odd: str) -> None:
    analysis, question = ALL[name]
    assert isinstance(analysis, FederatedView)
    partner = changed(at((hospitals()[0],))[0], ODD[odd])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a division by nothing is a wrong number on its way
        found = together(analysis, question, [partner])
        if odd == "no rows" and name.startswith("permutation"):
            with pytest.raises(BadInput, match="too few rows"):
                analysis.read(question, found, Lineage(model="heart"), Release(partners=1))
            return
        told = analysis.read(question, found, Lineage(model="heart"), Release(partners=1))
        assert told.describe() or any("no curve" in line for line in told.caveats)
        assert type(told).from_json(told.to_json()) == told
        assert told.to_columns()
    assert told.to_chart().to_dict()
