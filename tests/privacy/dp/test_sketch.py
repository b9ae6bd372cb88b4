"""How much of one data set another holds, as its sketch says, against the truth."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.dp.sketch import Sketch, overlap, row_bytes, similar, sketch_rows
from aimass.proto.errors import BadInput
from aimass.proto.secret import Secret

KEY = Secret(b"k" * 32)


def rows(start: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30_000), st.integers(1, 30_000), st.floats(0, 1))
def test_the_share_lies_within_five_errors_of_the_truth(small: int, large: int, part: float) -> None:
    small, large = min(small, large), max(small, large)
    common = int(part * small)
    found = overlap(sketch_rows(KEY, rows(0, small)), sketch_rows(KEY, rows(small - common, large)))
    truth = common / small
    allowed = 5 * (truth * (1 - truth) / max(found.seen, 1)) ** 0.5 + 1e-9
    assert abs(found.share - truth) <= allowed if found.seen > 100 else True
    assert found.seen >= min(small, 4096 * small // (2 * large))


def test_small_sets_are_compared_exactly() -> None:
    found = overlap(sketch_rows(KEY, rows(0, 100)), sketch_rows(KEY, rows(75, 4000)))
    assert (found.share, found.seen) == (0.25, 100)


def test_of_a_small_set_inside_a_thousand_times_larger_one_little_is_seen() -> None:
    """The stated limit."""
    found = overlap(sketch_rows(KEY, rows(0, 50)), sketch_rows(KEY, rows(0, 60_000)))
    assert found.seen < 20
    assert found.share in {0.0, 1.0}


def test_order_and_repeats_of_rows_do_not_matter_and_the_key_does() -> None:
    one = sketch_rows(KEY, rows(0, 50))
    assert one == sketch_rows(KEY, [*reversed(rows(0, 50)), *rows(0, 50)])
    assert overlap(one, sketch_rows(Secret(b"l" * 32), rows(0, 50))).share == 0


def test_a_row_is_its_values_by_name() -> None:
    assert row_bytes({"a": 1, "b": 0.5}) == row_bytes({"b": 0.5, "a": 1}) != row_bytes({"a": 1, "b": 0.25})


def test_any_sketch_of_the_other_is_compared() -> None:
    old, new = sketch_rows(KEY, rows(0, 50)), sketch_rows(KEY, rows(1000, 50))
    assert list(similar(old, {"north": (old, new), "east": (new,), "west": ()})) == ["north"]


def test_nothing_is_in_nothing() -> None:
    assert overlap(sketch_rows(KEY, []), sketch_rows(KEY, rows(0, 5))).share == 0


@pytest.mark.parametrize(("count", "hashes"), [(1, ""), (0, "0" * 16), (2, "1" * 16 + "0" * 16), (2, "1" * 32)])
def test_a_sketch_that_is_none_is_refused(count: int, hashes: str) -> None:
    with pytest.raises(BadInput, match="not one"):
        Sketch(rows=count, hashes=hashes)
