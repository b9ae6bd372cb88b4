"""The page of Serving over a real prediction server: what answers, how often it failed, and that it is away."""

from __future__ import annotations

import json
import math
import urllib.request
from pathlib import Path

import pytest

from aimass.explain.app.serving_figures import answered, quantile
from aimass.explain.app.settings import AppSettings
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.support.served_heart import served_heart


def test_versions_requests_and_the_audit_log_of_a_real_server(opened: Opened, tmp_path: Path) -> None:
    with served_heart(tmp_path) as port:
        url = f"http://127.0.0.1:{port}"
        body = json.dumps({"age": 57, "sex": "Male"}).encode()
        request = urllib.request.Request(f"{url}/predict/heart", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            assert response.status == 200
        page = opened("serving", AppSettings(serving=(url,)))
        assert not page.exception
        assert "**heart** :green-badge[ready]" in said(page)
        (table,) = [one.value for one in page.dataframe if "99 % below" in one.value.columns]
        assert table["version"].tolist() == [1]
        assert table["requests"].tolist() == ["1"]
        assert table["failed"].tolist() == ["0 %"]
        assert any("decision" in one.value.columns for one in page.dataframe)
    page.run()
    page = opened("serving", AppSettings(serving=(url,)))
    assert "No serving process answers there" in said(page)


def test_without_a_server_the_page_says_what_to_do(opened: Opened) -> None:
    page = opened("serving")
    assert "knows no prediction server" in said(page)
    assert page.code


FIGURES = """# TYPE aimass_serving_requests counter
aimass_serving_requests_total{model="heart",version="3",outcome="ok"} 98
aimass_serving_requests_total{model="heart",version="3",outcome="serve.late"} 2
# TYPE aimass_serving_compute_seconds histogram
aimass_serving_compute_seconds_bucket{model="heart",version="3",le="0.001"} 60
aimass_serving_compute_seconds_bucket{model="heart",version="3",le="0.01"} 97
aimass_serving_compute_seconds_bucket{model="heart",version="3",le="+Inf"} 98
"""


def test_figures_are_counted_by_version() -> None:
    (one,) = answered(FIGURES)
    assert (one.model, one.version, one.requests, one.failed) == ("heart", "3", 100, 2)
    assert (one.median, one.p99) == (0.001, math.inf)
    assert answered("") == ()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 1.0), (0.51, 2.0), (1.0, 4.0)])
def test_a_quantile_is_the_end_of_the_bin_that_holds_it(share: float, expected: float) -> None:
    assert quantile([(1.0, 5.0), (2.0, 6.0), (4.0, 10.0)], share) == expected
    assert math.isnan(quantile([], 0.5))
