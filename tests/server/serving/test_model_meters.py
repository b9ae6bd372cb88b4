"""What is counted of versions that answer."""

from __future__ import annotations

import numpy as np

from aimass.server.serving.dispatch.requests import Answer, InvalidOutput
from aimass.server.serving.model_meters import ModelMeters


def test_a_version_is_counted_by_how_its_requests_ended_and_by_rows() -> None:
    meters, rows = ModelMeters(), {"x": np.zeros((3, 2))}
    meters.tap("heart", 4, rows, Answer({}, "heart", 4, 0.0015, 0.0004), 0.002, None)
    meters.tap("heart", 5, rows, None, 0.1, InvalidOutput("heart", 5, "output y is not finite"))
    assert meters.requests.read() == {("heart", "4", "ok"): 1, ("heart", "5", "serving.invalid_output"): 1}
    assert meters.rows.read() == {("heart", "4"): 3}
    [(counts, total)] = meters.compute.read().values()
    assert (counts[1], total) == (1, 0.0004)
    assert meters.queue.read()["heart",][1] == 0.0015
