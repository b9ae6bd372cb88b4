"""Trainings by the real DP-SGD trainer: the game over many of them, the game in many cells of one, and one-run auditing.

Who guesses sees the noised sum of every step, as the accountant assumes, and knows all other rows. The last subject
sees no more than what leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from aimass.client import private_trainer
from aimass.client.private_gradients import ClippedSums
from aimass.client.private_trainer import PrivateTrainer
from aimass.privacy.dp import private_terms
from aimass.privacy.dp.events import PoissonGaussian
from aimass.privacy.dp.gaussian import GridNoise, noised
from aimass.proto.plan import PrivacySettings
from tests.audit.cells import Laboratory, settings
from tests.audit.findings import CONFIDENCE, Bound, Subject
from tests.audit.one_run import epsilon_from_guesses, right_guesses
from tests.audit.seams import REAL, Seam, replaced
from tests.audit.sums import game

__all__ = ["HALF_NOISE", "NO_CLIPPING", "TRAININGS"]

_CANARIES: Final = 100_000
_SEED: Final = 7
"""Of the canaries' coins; noise and samples are the mechanism's own, from the operating system."""

HALF_NOISE: Final = replaced(
    private_trainer,
    "noised",
    lambda noise, values, stream: noised(GridNoise(noise.multiplier / 2, noise.clip, noise.count), values, stream),
)
NO_NOISE: Final = replaced(private_trainer, "noised", lambda _, values, __: values)
NO_CLIPPING: Final = replaced(private_trainer, "ClippedSums", lambda model, _: ClippedSums(model, 1e30))
_WRONG_RATE: Final = replaced(private_terms, "PoissonGaussian", lambda q, sigma: PoissonGaussian(q=q / 10, sigma=sigma))


def _own_divisor(train: Callable[..., Any]) -> Callable[..., Any]:
    """A training that divides by the batch that this partner expects."""

    def own(self: PrivateTrainer, shard: Any, start: Any, state: Any, settings: Any, privacy: PrivacySettings) -> Any:
        size = privacy.sampling_rate * len(shard.train.labels)
        return train(self, shard, start, state, settings, msgspec.structs.replace(privacy, divisor=size))

    return own


def _whole(seam: Seam, quick: bool) -> Bound:
    """Thousands of short trainings over two rows, or over one of them."""
    with seam():
        laboratory = Laboratory(4, 4, settings(4.0, 0.5))
        count = 400 if quick else 4_000
        with_, without = (
            np.array([laboratory.evidence(cells)[0] for _ in range(count)])
            for cells in (np.array([0, 1]), np.array([1]))
        )
        return game(laboratory.stated(2), laboratory.privacy.delta, with_, without)


def _in_cells(seam: Seam, quick: bool) -> Bound:
    """Every cell of a training is a trial: samples and noise are drawn for each by itself (`inside` looks at that)."""
    cells, trainings = 1 << 20, 1 if quick else 6
    with seam():
        laboratory = Laboratory(cells, 4, settings(1.6, 0.25))
        found = [laboratory.evidence(np.arange(cells // 2)).reshape(2, -1) for _ in range(trainings)]
        with_, without = np.concatenate(found, axis=1)
        return game(laboratory.stated(cells // 2), laboratory.privacy.delta, with_, without)


def _one_run(seam: Seam, _: bool) -> Bound:
    """Each canary is in by its own coin; guesses for the most and the least likely, 2 % of all, fixed beforehand."""
    included = np.random.default_rng(_SEED).random(_CANARIES) < 0.5
    guesses = _CANARIES // 50
    with seam():
        laboratory = Laboratory(_CANARIES, 4, settings(3.0, 0.5, delta=1e-8))
        evidence = laboratory.evidence(np.flatnonzero(included))
        right, delta = right_guesses(evidence, included, guesses), laboratory.privacy.delta
        least = epsilon_from_guesses(_CANARIES, guesses, right, delta, CONFIDENCE)
        return Bound("one run", laboratory.stated(int(included.sum())), delta, least, _CANARIES)


def _scale(seam: Seam, quick: bool) -> Bound:
    """The noise alone, in cells without a row, of the update that leaves: its scale must not depend on a row."""
    count = 400 if quick else 4_000
    with seam():
        laboratory = Laboratory(1_000, 1, settings(3.75, 1.0))
        with_, without = (
            -np.array([laboratory.update(np.arange(rows))[10:].std() for _ in range(count)]) for rows in (2, 1)
        )
        return game(laboratory.stated(2), laboratory.privacy.delta, with_, without)


TRAININGS: Final = (
    Subject("DP-SGD, whole trainings", _whole, REAL, {"no noise": NO_NOISE, "no clipping": NO_CLIPPING}),
    Subject(
        "DP-SGD, cells of a training",
        _in_cells,
        REAL,
        {"half the noise": HALF_NOISE, "a tenth of the rate told": _WRONG_RATE},
    ),
    Subject("DP-SGD, canaries of one run", _one_run, REAL, {"no noise": NO_NOISE, "no clipping": NO_CLIPPING}),
    Subject(
        "DP-SGD, scale of an update",
        _scale,
        REAL,
        {"own batch as divisor": replaced(PrivateTrainer, "train", _own_divisor(PrivateTrainer.train))},
    ),
)
