from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.server.serving.dispatch.routing import NO_ROUTE, divided


def never() -> float:
    raise AssertionError("no draw is needed")


def test_a_version_with_all_of_the_share_needs_no_draw() -> None:
    assert divided({4: 1.0, 3: 0.0}, (3, 4), None).choose(never) == 4


def test_a_draw_decides_among_shares() -> None:
    route = divided({3: 0.9, 4: 0.1}, (3, 4), 3)
    assert [route.choose(iter([drawn]).__next__) for drawn in (0.0, 0.899, 0.901, 0.999)] == [3, 3, 4, 4]
    assert route.share(4) == pytest.approx(0.1)
    assert route.share(5) == 0.0


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_every_draw_finds_a_version(parts: list[float], drawn: float) -> None:
    shares = {version: part / sum(parts) for version, part in enumerate(parts)}
    assert divided(shares, shares, None).choose(lambda: drawn) in shares


@pytest.mark.parametrize("shares", [{3: 0.5}, {3: 1.5, 4: -0.5}, {3: 0.6, 4: 0.6}, {}])
def test_shares_that_are_no_parts_of_one_are_refused(shares: dict[int, float]) -> None:
    with pytest.raises(BadInput) as caught:
        divided(shares, (3, 4), None)
    assert caught.value.code == "serving.shares"


@pytest.mark.parametrize(("shares", "fallback"), [({5: 1.0}, None), ({3: 1.0}, 5)])
def test_a_version_that_is_not_loaded_gets_no_share(shares: dict[int, float], fallback: int | None) -> None:
    with pytest.raises(BadInput) as caught:
        divided(shares, (3, 4), fallback)
    assert caught.value.code == "serving.share_version"


def test_when_a_version_goes_the_others_have_its_share() -> None:
    route = divided({3: 0.5, 4: 0.3, 5: 0.2}, (3, 4, 5), 3)
    assert route.without(3).share(4) == pytest.approx(0.6)
    assert route.without(3).fallback is None
    assert divided({4: 1.0}, (3, 4), 3).without(4).choose(never) == 3
    assert divided({4: 1.0}, (2, 3, 4), 3).without(2) == divided({4: 1.0}, (3, 4), 3)
    assert divided({4: 1.0}, (4,), None).without(4).choose(never) is None
    assert NO_ROUTE.choose(never) is None
