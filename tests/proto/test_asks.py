"""What a plan says of an analysis' sums."""

import math

import numpy as np
import pytest

from aimass.proto.asks import AskedAnalysis, Cells, Phase, Shared, phase_at
from aimass.proto.errors import BadInput
from aimass.proto.values import canonical_json, decode_json

ROWS = Cells(name="rows", counts=True)


def test_counts_of_several_tables_have_a_row_in_one_cell_of_each() -> None:
    assert Cells(name="a", shape=(4, 10), counts=True, tables=1).norm == 2.0
    assert Cells(name="a", shape=(4, 10), counts=True).norm == 1.0
    assert ROWS.norm == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": True, "of": "rows"},
        {"counts": True, "row_norm": 1.0},
        {"counts": True, "tables": 1},
        {"of": "rows"},
        {"row_norm": 1.0},
        {"of": "rows", "row_norm": 1.0, "tables": 1, "shape": (2,)},
        {"counts": True, "shape": (300, 300)},
    ],
)
def test_a_tensor_is_of_counts_or_of_sums_and_says_what_each_needs(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="x"):
        Cells(name="x", **wrong)  # type: ignore[arg-type]


def test_sums_name_the_counts_that_they_are_of() -> None:
    counts = Cells(name="counts", shape=(3,), counts=True)
    Phase(cells=(counts, Cells(name="sums", shape=(3, 5), of="counts", row_norm=1.0)))
    for other in ("absent", "sums"):
        with pytest.raises(ValueError, match="counts no rows"):
            Phase(cells=(counts, Cells(name="sums", shape=(3, 5), of=other, row_norm=1.0)))
    with pytest.raises(ValueError, match="does not begin"):
        Phase(cells=(counts, Cells(name="sums", shape=(5, 3), of="counts", row_norm=1.0)))
    with pytest.raises(ValueError, match="one name"):
        Phase(cells=(counts, counts))


def test_each_tensor_has_noise_by_what_one_row_adds_to_it() -> None:
    large = Cells(name="sums", of="rows", row_norm=100.0)
    phase = Phase(cells=(ROWS, large))
    assert phase.deviation(ROWS, 2.0) == pytest.approx(2 * math.sqrt(2))
    assert phase.deviation(large, 2.0) == pytest.approx(200 * math.sqrt(2))


def test_a_step_has_the_phase_that_its_number_falls_into() -> None:
    first, second = Phase(cells=(ROWS,)), Phase(cells=(Cells(name="other", counts=True),), times=2)
    assert [phase_at((first, second), number) for number in range(3)] == [first, second, second]
    for number in (-1, 3):
        with pytest.raises(BadInput, match="no such step"):
            phase_at((first, second), number)
    assert AskedAnalysis(name="a", digest="0" * 64, phases=(first, second)).steps == 3


def test_what_is_shared_stands_in_the_plan_and_is_read_again() -> None:
    shared = Shared.of("public", "quartiles of a published table", {"edges": np.arange(4.0)})
    again = decode_json(Shared, canonical_json(shared), "it")
    assert again == shared
    np.testing.assert_array_equal(again.arrays()["edges"], np.arange(4.0))
    with pytest.raises(ValueError, match="bytes"):
        Shared.of("public", "much", {"edges": np.zeros(1 << 17)})
    with pytest.raises(BadInput, match="kind"):
        decode_json(Shared, canonical_json(shared).replace(b'"public"', b'"rows"'), "it")


@pytest.mark.parametrize("says", ["UCI heart\x1b[2K", "two\nlines", "\u202etrawkcab", "\x9b8m"])
def test_what_is_shared_says_where_from_in_characters_that_can_be_shown(says: str) -> None:
    with pytest.raises(ValueError, match="cannot be shown"):
        Shared.of("public", says, {"edges": np.arange(4.0)})
    sound = canonical_json(Shared.of("public", "HERE", {"edges": np.arange(4.0)}))
    with pytest.raises(BadInput, match="cannot be shown"):
        decode_json(Shared, sound.replace(b'"HERE"', canonical_json(says)), "it")
