"""What is counted of each version that answers: requests by how they ended, rows, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aimass.proto.errors import AimassError
from aimass.proto.meters import Count, Spread
from aimass.proto.servable import Array, rows_of
from aimass.server.serving.dispatch.requests import Answer

__all__ = ["ModelMeters"]

_SECONDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0)
_MOST: Final = 256
_ANSWERED: Final = "ok"


class ModelMeters:
    """Its `tap` is for a dispatcher and hears of each version that tried a request, also where a fallback answers."""

    def __init__(self) -> None:
        self.requests = Count(
            "aimass_serving_requests",
            "Requests that a version tried, by `ok` or the code of what it failed with.",
            "model",
            "version",
            "outcome",
            most=_MOST,
        )
        self.rows = Count("aimass_serving_rows", "Rows that a version answered.", "model", "version", most=_MOST)
        self.queue = Spread(
            "aimass_serving_queue_seconds", "What a request waited for a worker.", "model", bounds=_SECONDS, most=_MOST
        )
        self.compute = Spread(
            "aimass_serving_compute_seconds",
            "From the hand-over to a worker to its answer.",
            "model",
            "version",
            bounds=_SECONDS,
            most=_MOST,
        )

    def tap(
        self,
        model: str,
        version: int,
        tensors: Mapping[str, Array],
        answer: Answer | None,
        seconds: float,
        error: AimassError | None,
    ) -> None:
        """See `dispatch.requests.Tap`."""
        number = str(version)
        self.requests.add(model, number, _ANSWERED if error is None else error.code)
        if answer is not None:
            self.rows.add(model, number, by=rows_of(tensors))
            self.queue.observe(answer.queue_s, model)
            self.compute.observe(answer.compute_s, model, number)
