"""What the swap bench makes of what it saw: which answers count as failed, and how soon a promoted version answers."""

from __future__ import annotations

import numpy as np
from scripts.benches.checked_load import Records, Verdict
from scripts.benches.swap import figures, first_answers, unpromoted
from scripts.benches.swap_schedule import Happened, Kind


def _records(*rows: tuple[float, int, Verdict]) -> Records:
    at_s, version, verdict = (np.array(column) for column in zip(*rows, strict=True))
    return Records(at_s.astype(float), np.full(len(at_s), 0.001), version.astype(int), verdict.astype(int))


def test_an_answer_counts_against_the_server_until_its_version_is_promoted() -> None:
    right = Verdict.RIGHT
    records = _records((0.5, 1, right), (1.5, 2, right), (2.5, 2, right), (3.0, 9, right), (3.1, 0, Verdict.STATUS))
    assert unpromoted(records, {1: -5.0, 2: 2.0}).tolist() == [False, True, False, True, False]


def test_every_way_to_fail_is_told_and_nothing_else() -> None:
    ways = [(float(place), 1, verdict) for place, verdict in enumerate(Verdict)]
    rows = {row.metric: row for row in figures(_records((-1.0, 1, Verdict.RIGHT), *ways), [], {1: -2.0})}
    assert rows["answered wrongly"].value == 2
    assert rows["answered by an error"].value == 1
    assert rows["answered by nobody"].value == 1
    assert rows["by a version not promoted"].met
    assert not rows["answered wrongly"].met


def test_a_swap_is_over_with_the_first_answer_of_its_version() -> None:
    records = _records(
        (1.0, 1, Verdict.RIGHT), (2.1, 1, Verdict.RIGHT), (2.4, 2, Verdict.RIGHT), (3.5, 3, Verdict.RIGHT)
    )
    happened = [
        Happened(2.0, Kind.SWAP, 2),
        Happened(3.0, Kind.KILL),
        Happened(3.2, Kind.SWAP, 1),
        Happened(4.0, Kind.KILL),
    ]
    np.testing.assert_allclose(first_answers(records, happened), [0.4])
