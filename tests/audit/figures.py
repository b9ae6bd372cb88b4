"""The game on noised metrics and analyses: one row more or less, and what leaves of all rows together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final
from unittest import mock

import numpy as np
import numpy.typing as npt

from aimass.client import analyses, private_metrics
from aimass.client.shards import Shard
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Relation, Terms, Unit
from aimass.privacy.dp.gaussian import GridNoise
from aimass.privacy.dp.private_terms import analysis_noise, step_events
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.plan import AnalysisNoise, MetricNoise
from aimass.proto.rows import Batch
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob, encode_numpy
from tests.audit.findings import Bound, Subject
from tests.audit.seams import REAL, Seam, replaced
from tests.audit.sums import DELTA, game
from tests.client.test_budget import measured, plan

__all__ = ["FIGURES"]

Floats = npt.NDArray[np.float64]
_NOISE: Final = 1.4
_METRICS: Final = MetricNoise(noise_multiplier=_NOISE)
_ANALYSES: Final = AnalysisNoise(noise_multiplier=_NOISE)
_COLUMNS: Final = 64


def _trials(quick: bool) -> int:
    return 2_000 if quick else 30_000


def _stated(kind: StepKind, purpose: str = "") -> float:
    """Epsilon of one such step as a ledger debits it."""
    events = step_events(measured(plan(), _METRICS, _ANALYSES), kind, None, 0, purpose=purpose)
    terms = Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=DELTA)
    return Accountant().figure(terms, events).epsilon


def _metrics(seam: Seam, quick: bool) -> Bound:
    """Who guesses sees the noised counts, from which the metrics are made."""
    chances, labels = np.array([[0.3, 0.7], [0.8, 0.2], [0.01, 0.99]]), np.array([1, 0, 1])

    def count(rows: int) -> float:
        private_metrics.noised_metrics(chances[:rows], labels[:rows], _METRICS, NoiseStream())
        return float(seen.pop()[1, -1])

    with seam(), _seen(private_metrics) as seen:
        with_, without = (np.array([count(rows) for _ in range(_trials(quick))]) for rows in (3, 2))
    return game(_stated(StepKind.EVALUATE), DELTA, with_, without)


def _analysis(seam: Seam, quick: bool) -> Bound:
    """The canary lies far beyond every bound of the schema."""
    model = Blob(encode_numpy({f"preprocess.{part}": np.ones(_COLUMNS, np.float32) for part in ("shift", "span")}))
    numbers = np.full((2, _COLUMNS), 1.5, np.float32)
    numbers[1] = 50.0

    def total(rows: int) -> float:
        batch = Batch(numbers[:rows], np.zeros((rows, 0), np.int64), None, np.zeros(rows, np.int64))
        shard = Shard("a", batch, batch)
        made = analyses.analyse_privately("statistics", shard, model, _ANALYSES, NoiseStream())
        return sum(float(sums.sum()) for sums in made.groups["statistics"].tensors.values())

    with seam():
        with_, without = (np.array([total(rows) for _ in range(_trials(quick))]) for rows in (2, 1))
    return game(_stated(StepKind.ANALYSE, "statistics"), DELTA, with_, without)


@contextmanager
def _seen(module: ModuleType) -> Iterator[list[Floats]]:
    """What comes out of the noise that a module calls `noised`."""
    inner: Callable[..., Floats] = vars(module)["noised"]
    found: list[Floats] = []

    def noised(*order: Any) -> Floats:
        found.append(inner(*order))
        return found[-1]

    with mock.patch.object(module, "noised", noised):
        yield found


def _as_of_one_column(setting: AnalysisNoise, columns: int) -> GridNoise:
    one = analysis_noise(setting, 1)
    return GridNoise(one.multiplier, one.clip, 3 * columns)


FIGURES: Final = (
    Subject(
        "metrics from a noised histogram",
        _metrics,
        REAL,
        {"no noise": replaced(private_metrics, "noised", lambda _, values, __: values)},
    ),
    Subject(
        "analysis with noise",
        _analysis,
        REAL,
        {
            "values not cut to their bounds": replaced(np, "clip", lambda values, *_: values),
            "noise of one column for all": replaced(analyses, "analysis_noise", _as_of_one_column),
        },
    ),
)
