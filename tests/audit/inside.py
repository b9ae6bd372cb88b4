"""Looks from inside: what an audit of outputs would need far more trials for, or could not see at all.

Each names the test that asks the same of the real mechanism with every change of the code.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from aimass.client import private_sampling, private_trainer
from aimass.client.budget import Budgets, Debit
from aimass.client.private_gradients import ClippedSums
from aimass.client.private_sampling import poisson_sample
from aimass.privacy.dp import distributed, streams
from aimass.privacy.dp.ledger_reading import read_lines
from aimass.privacy.dp.noise_plan import Circle, plan_noise
from aimass.privacy.dp.rotation import unrotate
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.masks import stream_parts
from aimass.privacy.secagg.quantise import centred
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from tests.audit.cells import Laboratory, settings
from tests.audit.findings import Look, Subject
from tests.audit.seams import REAL, Seam, replaced
from tests.audit.sums import KEY
from tests.audit.trainings import HALF_NOISE, NO_CLIPPING
from tests.client.test_budget import POLICY, RUN, plan, step
from tests.support.dp_looks import WORST, alike, inclusion, noise_is_stated, strange
from tests.support.ledgers import counted
from tests.support.noise_plans import TEN, setting

__all__ = ["INSIDE"]

_NEVER: Final = 1e-300
_CELLS: Final = 200
_STEPS: Final = 800
_RATE: Final = 0.1

_ONE_SEED: Final = replaced(streams, "stream_parts", lambda _, dtype: stream_parts(bytes(16), dtype))
"""Every stream has the key of every other."""


# ------------------------------------------------------------------- trainings


def _noise(seam: Seam, _: bool) -> Look:
    """Two trainings of two steps that draw no row."""
    with seam():
        laboratory = Laboratory(1 << 15, 2, settings(1.5, _NEVER))
        drawn = [noisy for _ in "ab" for _, noisy in laboratory.sums(np.array([0]))]
    wrong = any(strange(each, 1.5) for each in drawn) or any(alike(*pair) for pair in combinations(drawn, 2))
    return Look(
        "moments and streams of the noise",
        "tests/client/test_private_trainer.py::test_no_step_and_no_training_draws_a_noise_again",
        wrong,
    )


def _clip(seam: Seam, _: bool) -> Look:
    """Three rows, and a fourth, much larger and against them: by how much it moves the sum."""
    rows, sizes = np.zeros(4, np.intp), np.array([100.0, 100.0, 100.0, -1_000.0])
    with seam():
        laboratory = Laboratory(2, 1, settings(1.0, 1.0))
        with_, without = (laboratory.sums(rows[:count], sizes[:count])[0][0] for count in (4, 3))
    moved = float(np.abs(with_ - without).max())
    return Look(
        "what one row moves",
        "tests/client/test_private_trainer.py::test_one_row_moves_a_sum_by_no_more_than_the_clip_and_unclipped_sums_are_noticed",
        moved > 1 + 1e-5,
    )


def _person(seam: Seam, _: bool) -> Look:
    """A person with four rows, each in its own cell, beside another one: by how much it moves the sum."""
    rows, persons = np.arange(5), np.array([0, 1, 1, 1, 1])
    with seam():
        laboratory = Laboratory(5, 1, msgspec.structs.replace(settings(1.0, 1.0), unit="person", rows_per_person=4))
        with_, without = (laboratory.sums(rows[:count], persons=persons[:count])[0][0] for count in (5, 1))
    return Look(
        "what one person moves",
        "tests/client/test_private_persons.py::test_one_person_moves_a_sum_by_no_more_than_the_clip_whatever_the_number_of_its_rows",
        float(np.linalg.norm(with_ - without)) > 1 + 1e-5,
    )


class _ClippedRows(ClippedSums):
    """Bounds each row of a person, and not the person."""

    def add(self, total: torch.Tensor, losses: torch.Tensor, persons: torch.Tensor | None = None) -> torch.Tensor:
        return super().add(total, losses)


class _ClippedBatches(ClippedSums):
    """Bounds the sum of a batch, and no row of it."""

    def __init__(self, model: torch.nn.Module, clip: float) -> None:
        super().__init__(model, 1e30)
        self._most = clip

    def add(self, total: torch.Tensor, losses: torch.Tensor, persons: torch.Tensor | None = None) -> torch.Tensor:
        batch = self.zeros()
        norms = super().add(batch, losses, persons)
        total += batch * (self._most / batch.norm()).clamp(max=1)
        return norms


def _samples(seam: Seam, _: bool) -> Look:
    """Which rows are in the sums of hundreds of steps."""
    with seam():
        exact = [sum_ for sum_, _ in Laboratory(_CELLS, _STEPS, settings(1.0, _RATE)).sums(np.arange(_CELLS))]
    found = inclusion([np.flatnonzero(each) for each in exact], _CELLS, _RATE)
    return Look(
        "inclusion counts",
        "tests/client/test_private_sampling.py::test_rows_are_drawn_by_themselves_at_the_stated_rate",
        max(found.values()) > WORST,
    )


def _shuffled() -> Callable[..., npt.NDArray[np.intp]]:
    """A pass over all rows in some order, then another."""
    left: list[npt.NDArray[np.intp]] = []

    def batch(rows: int, rate: float, *_: Any) -> npt.NDArray[np.intp]:
        if not left:
            left.extend(np.array_split(np.random.default_rng().permutation(rows), round(1 / rate)))
        return np.sort(left.pop())

    return batch


def _fixed_size(rows: int, rate: float, *_: Any) -> npt.NDArray[np.intp]:
    return np.sort(np.random.default_rng().choice(rows, round(rows * rate), replace=False))


def _more_often(rows: int, rate: float, *more: Any) -> npt.NDArray[np.intp]:
    return poisson_sample(rows, rate * 1.1, *more)


# ------------------------------------------------------------------- secure sums


def _least_sum(seam: Seam, _: bool) -> Look:
    """The least sum that a server can have of a plan's partners, where the tolerated colluders add nothing."""
    with seam():
        noised = plan_noise(setting(TEN), 3.0)
        least = next(
            size for size in range(TEN.members // 2 + 1, TEN.members + 1) if _admitted(noised.setting.circle, size)
        )
        zeros = np.zeros(noised.setting.count)
        shares = [distributed.encode(noised, zeros, KEY, NoiseStream()) for _ in range(least - TEN.colluders)]
    total = centred(np.asarray(sum(shares)), noised.setting.bits)
    return Look(
        "variance of the least sum",
        "tests/privacy/dp/test_distributed.py::test_the_least_cohort_with_all_colluders_has_the_stated_noise",
        not noise_is_stated(noised, total),
    )


def _admitted(circle: Circle, least: int) -> bool:
    """Whether a partner takes part in a round with this least cohort."""
    try:
        circle.check_round(TEN.members, 100_000, least)
    except FaultError:  # E_POLICY
        return False
    return True


def _too_many_shares() -> property:
    return property(lambda circle: circle.quorum - circle.colluders + 1)


def _decoded(seam: Seam, _: bool) -> Look:
    """Contributions of norm one along one direction, with hardly any noise: their sum, decoded."""
    clear = plan_noise(setting(), 0.01)
    direction = np.random.default_rng(1).normal(size=clear.setting.count)
    direction /= np.linalg.norm(direction)
    with seam():
        lanes = sum(distributed.encode(clear, direction, KEY, NoiseStream()) for _ in range(8))
        found = distributed.decode(clear, np.asarray(lanes), KEY)
    return Look(
        "the decoded sum",
        "tests/privacy/dp/test_distributed.py::test_the_sum_of_encodings_is_the_sum_of_clipped_contributions_and_noise",
        abs(float(found @ direction) - 8) > 0.5,
    )


def _turned(values: npt.NDArray[np.float64], block: int, key: bytes) -> None:
    unrotate(values, block, key)
    values *= -1


def _sent(seam: Seam, _: bool) -> Look:
    """A contribution a hundred times too long."""
    noised = plan_noise(setting(bits=20), 2.0)
    refused = False
    with seam():
        try:
            distributed.encode(noised, np.full(noised.setting.count, 100.0), KEY, NoiseStream())
        except FaultError as fault:
            refused = fault.fault.code is Code.ROUNDING
    return Look(
        "norm of the whole numbers (E_ROUNDING)",
        "tests/privacy/dp/test_distributed.py::test_a_contribution_that_was_not_clipped_is_not_sent",
        refused,
    )


# ------------------------------------------------------------------- the ledger


def _order(seam: Seam, _: bool) -> Look:
    """What is on the disk when the child gets its order, where a kill may come."""
    with tempfile.TemporaryDirectory(prefix="aimass-audit-") as folder, seam():
        budgets = Budgets(Path(folder), UNINTERRUPTED, SystemClock())
        debit = budgets.debit(POLICY, "heart", plan(), RUN, step(), 500, 1_000)
        assert debit is not None
        lines = Path(folder, "heart", "ledger.jsonl")
        before = counted(read_lines(lines).ledger) if lines.exists() else 0
        debit.settle(20, "5" * 64)
        after = counted(read_lines(lines).ledger)
        budgets.close()
    return Look(
        "order of debit and use",
        "tests/client/test_budget.py::test_a_step_is_debited_before_it_runs_and_settled_by_what_was_done",
        before < after,
    )


@dataclasses.dataclass(frozen=True)
class _Late:
    """Reserves what was used, when it has been used."""

    debit: Callable[[], Debit | None]

    def settle(self, steps: int, result: str) -> None:
        found = self.debit()
        assert found is not None
        found.settle(steps, result)


def _late(debit: Callable[..., Debit | None]) -> Callable[..., _Late]:
    return lambda *order: _Late(partial(debit, *order))


INSIDE: Final = (
    Subject("DP-SGD, noise of a step", _noise, REAL, {"half the noise": HALF_NOISE, "a seed used again": _ONE_SEED}),
    Subject(
        "DP-SGD, clipped sums",
        _clip,
        REAL,
        {
            "no clipping": NO_CLIPPING,
            "clip by batch, not by row": replaced(private_trainer, "ClippedSums", _ClippedBatches),
        },
    ),
    Subject(
        "DP-SGD for persons, clipped sums",
        _person,
        REAL,
        {"clip by row, not by person": replaced(private_trainer, "ClippedSums", _ClippedRows)},
    ),
    Subject(
        "DP-SGD, samples of rows",
        _samples,
        REAL,
        {
            "shuffled batches": replaced(private_sampling, "poisson_sample", _shuffled()),
            "batches of one size": replaced(private_sampling, "poisson_sample", _fixed_size),
            "a tenth more than told": replaced(private_sampling, "poisson_sample", _more_often),
        },
    ),
    Subject(
        "secure sum, the least that is opened",
        _least_sum,
        REAL,
        {
            "one share of noise too few": replaced(Circle, "shares", _too_many_shares()),
            "least cohort M lowered": replaced(Circle, "check_round", lambda *_: None),
            "one seed for all partners": _ONE_SEED,
        },
    ),
    Subject("secure sum, rotation", _decoded, REAL, {"the wrong sign": replaced(distributed, "unrotate", _turned)}),
    Subject("secure sum, clipping", _sent, REAL, {"no clipping": replaced(distributed, "l2_norm", lambda _: 0.0)}),
    Subject("ledger", _order, REAL, {"debit after use": replaced(Budgets, "debit", _late(Budgets.debit))}),
)
