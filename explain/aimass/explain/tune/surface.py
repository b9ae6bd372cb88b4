"""Which settings decided, by a surface that is fitted to what was tried: also where a search has crowded its trials.

Each setting has a curve over its range in Legendre polynomials, each choice a level, and the surface is their sum. As
these are orthogonal over the space, the variance that a setting causes there is the sum of its squared coefficients:
the first-order terms of functional ANOVA (Sobol 1993; Sudret 2008, eq. 29 to 35). Coefficients are found by ridge
regression, smoother curves first, its penalty and the polynomials' degree by leave-one-out error (Allen 1974). Pure.

PED-ANOVA, by which `runs` compares runs of any origin, holds the best against evenly spread values: a search that has
found the optimum tries few others, and would seem to say that what it settled first is what matters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.lineage import Lineage
from aimass.explain.runs.importance import SettingsImportance, ranked
from aimass.explain.runs.outcomes import Outcomes
from aimass.explain.tune.space import Space
from aimass.explain.words import percent
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.values import Scalar

__all__ = ["surface_importance"]

Floats = npt.NDArray[np.float64]
_FEWEST: Final = 8
_DEGREES: Final = (1, 2, 3, 4)
_PENALTIES: Final = np.logspace(-3, 3, 19)
_LEVEL: Final = 0.05
_POOR: Final = 0.5
_CAVEAT: Final = (
    "Importance is over the whole space that was searched: a wider range makes a setting more important. It says "
    "nothing of the direction."
)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """Coefficients, the share of the variance that is explained of trials that were left out, and the penalty."""

    coefficients: Floats
    explained: float
    penalty: float


@dataclasses.dataclass(frozen=True)
class _Terms:
    """`values` float64 [trials, terms], orthonormal over the space; the setting [terms] that each is of, and its order:
    the penalty grows with its square, so that curves are as smooth as what was seen allows."""

    values: Floats
    owner: npt.NDArray[np.int64]
    order: Floats

    def of(self, rows: npt.NDArray[np.int64]) -> _Terms:
        """The same of these trials."""
        return dataclasses.replace(self, values=self.values[rows])


def surface_importance(
    outcomes: Outcomes, space: Space, lineage: Lineage, work: Work, *, resamples: int = 200
) -> SettingsImportance:
    """Of the settings of `space`, by runs that have a quality; the mean over a setting's seeds is what is fitted.

    Intervals are of resampled trials (Efron 1979), and `p` is of qualities that are dealt to the trials at random.
    Raises `BadInput` for fewer than eight trials.
    """
    trials, quality = _trials(outcomes, space)
    names = tuple(space.settings)
    terms = {degree: _terms(space, trials, degree) for degree in _DEGREES}
    degree, best = max(
        ((degree, _ridge(terms[degree], quality, _PENALTIES)) for degree in _DEGREES), key=lambda one: one[1].explained
    )
    chosen = terms[degree]
    share = _shares(best.coefficients, chosen.owner, len(names))
    random, drawn = work.rng("tune", "importance"), []
    for done in range(resamples):
        work.check()
        work.tell(done / resamples / 2, "importance of settings")
        rows = random.integers(0, len(quality), len(quality))
        again = _ridge(chosen.of(rows), quality[rows], np.array([best.penalty]))
        drawn.append(_shares(again.coefficients, chosen.owner, len(names)))
    low, high = np.quantile(np.array(drawn, np.float64), (0.025, 0.975), axis=0)
    p = _by_chance(chosen, quality, best.explained, work.part(0.5, 1.0), resamples)
    caveats = (_CAVEAT, *_doubts(best.explained, p))
    return ranked(outcomes, lineage, names, (share, low, high), resamples=resamples, p=p, caveats=caveats)


def _doubts(explained: float, p: float) -> tuple[str, ...]:
    if p > _LEVEL:
        return ("These trials do not show that any setting matters: shares of nothing are chance.",)
    if explained < _POOR:
        told = percent(max(0.0, explained))
        return (f"Settings one by one explain {told} of how trials differ; the rest is chance, or two together.",)
    return ()


def _trials(outcomes: Outcomes, space: Space) -> tuple[list[Mapping[str, Scalar]], Floats]:
    """Settings of each trial, and its mean quality."""
    groups: dict[tuple[Scalar, ...], list[float]] = {}
    for run in outcomes.runs:
        if run.quality is not None:
            key = tuple(run.settings[name] for name in space.settings)
            groups.setdefault(key, []).append(outcomes.objective.sign * run.quality)
    if len(groups) < _FEWEST:
        raise BadInput(
            "too few trials: nothing says what a setting does",
            code="explain.runs",
            value=f"{len(groups)} trials that came to something",
            limit=f"{_FEWEST} or more",
            cure="Search with more trials.",
        )
    trials: list[Mapping[str, Scalar]] = [dict(zip(space.settings, key, strict=True)) for key in groups]
    return trials, np.array([np.mean(values) for values in groups.values()])


def _terms(space: Space, trials: Sequence[Mapping[str, Scalar]], degree: int) -> _Terms:
    found: list[tuple[Floats, int, int]] = []
    for place, (name, setting) in enumerate(space.settings.items()):
        if setting.choices:
            levels = [setting.choices.index(trial[name]) for trial in trials]
            found += [(contrast, place, 1) for contrast in _contrasts(len(setting.choices))[:, levels]]
        else:
            at = np.array([_at(space, name, trial[name]) for trial in trials])
            found += [(_legendre(order, at), place, order) for order in range(1, degree + 1)]
    values, owner, order = zip(*found, strict=True)
    return _Terms(np.array(values).T, np.array(owner, np.int64), np.array(order, np.float64))


def _contrasts(count: int) -> Floats:
    """float64 [count - 1, count]: rows of mean 0 and mean square 1, orthogonal to one another."""
    basis, _ = np.linalg.qr(np.column_stack([np.ones(count), np.eye(count)[:, : count - 1]]))
    return np.asarray(basis[:, 1:].T * math.sqrt(count), np.float64)


def _legendre(order: int, at: Floats) -> Floats:
    value = np.polynomial.legendre.legval(at, [0.0] * order + [1.0])
    return np.asarray(value * math.sqrt(2 * order + 1), np.float64)


def _at(space: Space, name: str, value: Scalar) -> float:
    """Where a value stands in its range, from -1 to 1."""
    setting = space.settings[name]
    low, high, here = float(setting.low or 0), float(setting.high or 0), float(value)
    if setting.log:
        low, high, here = math.log(low), math.log(high), math.log(here)
    return 2 * (here - low) / (high - low) - 1


def _ridge(terms: _Terms, quality: Floats, penalties: Floats) -> _Fit:
    """The fit whose penalty leaves the least error of rows that are left out."""
    centred, wanted = (terms.values - terms.values.mean(axis=0)) / terms.order, quality - quality.mean()
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    turned = left.T @ wanted
    kept = scale**2 / (scale**2 + penalties[:, None])
    leverage = np.minimum((kept @ (left**2).T) + 1 / len(quality), 1 - 1e-6)
    errors = (((wanted - (kept * turned) @ left.T) / (1 - leverage)) ** 2).mean(axis=1)
    best = int(errors.argmin())
    variance = float(wanted.var())
    coefficients: Floats = right.T @ (scale / (scale**2 + penalties[best]) * turned) / terms.order
    explained = 1 - float(errors[best]) / variance if variance > 0 else 0.0
    return _Fit(coefficients, explained, float(penalties[best]))


def _shares(coefficients: Floats, owner: npt.NDArray[np.int64], count: int) -> Floats:
    found = np.asarray(np.bincount(owner, coefficients**2, minlength=count), np.float64)
    total = float(found.sum())
    return found / total if total > 0 else found


def _by_chance(terms: _Terms, quality: Floats, seen: float, work: Work, shuffles: int) -> float:
    """p that a surface explains as much of what chance deals: (1 + as much) / (1 + shuffles)."""
    random, as_much = work.rng("tune", "importance", "chance"), 0
    for done in range(shuffles):
        work.check()
        work.tell(done / shuffles, "what chance makes of settings")
        as_much += _ridge(terms, random.permutation(quality), _PENALTIES).explained >= seen
    return (1 + as_much) / (1 + shuffles)
