"""One image looked at: its pixels, right and wrong, and the chance around one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.segviz import Around, LookOptions, MaskOptions, around, explain_image, explain_images
from aimass.proto.errors import BadInput
from tests.explain.segviz import discs
from tests.explain.segviz.discs import MODEL

IMAGES = discs.images(4)


def test_one_image_is_what_the_gallery_shows_of_it() -> None:
    whole = explain_images(MODEL, IMAGES, MaskOptions(gallery=4)).gallery
    for place, number in enumerate(whole.places.tolist()):
        one = explain_image(MODEL, IMAGES, LookOptions(image=number))
        np.testing.assert_array_equal(one.cells[0], whole.cells[place])
        np.testing.assert_array_equal(one.chances[0], whole.chances[place])
        assert one.scores[0] == pytest.approx(whole.scores[place])
        assert one.places.tolist() == [number]


def test_a_number_that_no_image_has_is_refused() -> None:
    with pytest.raises(BadInput, match="0 to 3"):
        explain_image(MODEL, IMAGES, LookOptions(image=4))


@given(st.integers(0, discs.SIDE - 1), st.integers(0, discs.SIDE - 1))
def test_what_is_around_a_pixel_is_of_the_image_and_holds_the_pixel(row: int, column: int) -> None:
    shown = explain_image(MODEL, IMAGES, LookOptions(image=1))
    part = around(shown, 0, row, column, side=8)
    assert part.cells.shape == (8, 8)
    assert part.chances[row - part.top, column - part.left] == pytest.approx(shown.chance(0, row, column))
    np.testing.assert_array_equal(part.cells, shown.cells[0, part.top : part.top + 8, part.left : part.left + 8])
    assert f"row {row}, column {column}" in part.describe()[0]


def test_it_is_written_and_read_and_drawn() -> None:
    part = around(explain_image(MODEL, IMAGES, LookOptions(image=1)), 0, 5, 6)
    assert Around.from_json(part.to_json()) == part
    assert part.to_png().startswith(b"\x89PNG")
    assert len(next(iter(part.to_columns().values()))) == part.cells.size
    with pytest.raises(BadInput):
        around(explain_image(MODEL, IMAGES, LookOptions(image=1)), 0, discs.SIDE, 0)
