"""Epsilon of what was spent, for whoever debits, plans or reports: privacy loss distributions, checked by Rényi's.

Two accountants of dp-accounting run side by side. Privacy loss distributions (PLD) are tight and give the figure where
every event has one; Rényi differential privacy (RDP) is looser, checks it, and governs alone as soon as one event has
no PLD. Every figure names unit, relation, delta and accountant.

Equal events are composed at once, Gaussians of any noise in closed form, and what is settled is composed once and kept.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from dp_accounting import dp_event, rdp
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.privacy_accountant import NeighboringRelation

from aimass.privacy.dp.events import (
    DiscreteGaussian,
    Event,
    FixedSizeGaussian,
    Gaussian,
    Mechanism,
    PoissonGaussian,
    Relation,
    Skellam,
    Tally,
    Terms,
    TruncatedPoissonGaussian,
    Unit,
    tally,
)
from aimass.proto.errors import InternalError, Refused

__all__ = ["SLACK", "Accountant", "Figure", "check_accountant", "unbounded"]

SLACK: Final = 0.02
"""How far PLD may lie above RDP, for the grid that it rounds up to, before one of them must be wrong."""

_FAR: Final = 64.0
"""Beyond this Rényi figure, above every budget, no PLD is computed: its size grows with epsilon."""

_LEAST_SIGMA: Final = 0.25
"""Sampled Gaussians of less noise have no PLD here: minutes for a figure that no budget admits."""

_ORDERS: Final = np.array(rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS, dtype=np.float64)

Curve = npt.NDArray[np.float64]
_Kind = tuple[Mechanism, bool]  # what ran, and whether its sensitivity is doubled


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """An epsilon with all that it depends on. `check` is the other accountant's, where it has one."""

    terms: Terms
    epsilon: float
    accountant: Literal["pld", "rdp"]
    check: float | None

    def sentence(self) -> str:
        """The figure as a person may quote it."""
        by = "privacy loss distributions" if self.accountant == "pld" else "Rényi accounting"
        other = "" if self.check is None else f" (Rényi accounting: {self.check:.4f})"
        terms = self.terms
        return (
            f"epsilon {self.epsilon:.4f} at delta {terms.delta:g} for one {terms.unit}, "
            f"{terms.relation.replace('-', ' ')}, by {by}{other}"
        )


def check_accountant(name: str) -> None:
    """Refuse to account by anything but PLD and RDP, for plans and policies that name one."""
    if name not in {"pld", "rdp"}:
        gdp = "Opacus's GDP is a limit theorem and lies below the true epsilon (2.322 for 2.380)"
        raise Refused(
            gdp if name == "gdp" else "no figure is stated by this accountant",
            code="dp.accountant",
            value=name,
            limit="pld, rdp",
            cure="Leave the accountant to the ledger.",
        )


def unbounded(counts: Tally, terms: Terms) -> tuple[Event, ...]:
    """The events that say nothing about this unit under this relation; not one of them may meet a budget for it."""
    return tuple(
        Event(mechanism=mechanism, unit=unit, times=times)
        for (mechanism, unit), times in counts.items()
        if times and _seen(mechanism, unit, terms) is None
    )


class Accountant:
    """Figures for one data set. It keeps what it composed: not for two threads at once.

    `settled` only ever grows between two calls, where it can, and is composed once; `pending` is composed on top.
    """

    def __init__(self) -> None:
        self._settled: dict[tuple[Unit, Relation], _Composed] = {}
        self._figures: dict[tuple[Terms, frozenset[Any], frozenset[Any]], Figure] = {}

    def figure(self, terms: Terms, settled: Iterable[Event] | Tally, pending: Iterable[Event] | Tally = ()) -> Figure:
        """Epsilon of `settled` and `pending` together; infinite where an event has no bound for these terms.

        Raises `InternalError` where the accountants contradict each other.
        """
        first, more = (part if isinstance(part, Mapping) else tally(part) for part in (settled, pending))
        key = terms, frozenset(first.items()), frozenset(more.items())
        if key not in self._figures:
            if len(self._figures) >= 64:
                self._figures.clear()
            self._figures[key] = self._compute(terms, first, more)
        return self._figures[key]

    def renyi(self, terms: Terms, counts: Tally) -> float:
        """Rényi's epsilon alone: never much below the figure, and milliseconds where that takes a second."""
        if unbounded(counts, terms):
            return math.inf
        kinds = _kinds(counts, terms)
        return _renyi(((times, _curve(*kind)) for kind, times in kinds.items()), terms.delta) if kinds else 0.0

    def _compute(self, terms: Terms, settled: Tally, pending: Tally) -> Figure:
        if unbounded(settled, terms) or unbounded(pending, terms):
            return Figure(terms, math.inf, "rdp", None)
        base, top = _kinds(settled, terms), _kinds(pending, terms)
        if not base and not top:
            return Figure(terms, 0.0, "pld", 0.0)
        renyi = _renyi(((times, _curve(*kind)) for part in (base, top) for kind, times in part.items()), terms.delta)
        kinds = base.keys() | top.keys()
        if not all(_has_pld(*kind) for kind in kinds) or _far((base, top), terms.delta):
            return Figure(terms, renyi, "rdp", None)
        place = terms.unit, terms.relation
        composed = self._settled[place] = self._settled.get(place, _Composed()).grown(base)
        epsilon = float(composed.times(top).epsilon(terms.delta))
        if any(isinstance(mechanism, TruncatedPoissonGaussian) for mechanism, _ in kinds):
            return Figure(terms, epsilon, "pld", None)  # its Rényi bound says nothing of sampling: no check
        if epsilon > renyi + SLACK:
            raise InternalError(
                "two accountants contradict each other: no figure is stated",
                code="dp.accountants",
                value=f"PLD {epsilon:.4f}",
                limit=f"RDP {renyi:.4f} + {SLACK}",
                cure="Report this plan; the mechanism lies outside what was checked.",
            )
        return Figure(terms, epsilon, "pld", renyi)


class _Composed:
    """A product of privacy loss distributions, Gaussians kept apart as the sum of their inverse variances."""

    def __init__(self, counts: Mapping[_Kind, int] | None = None, product: Any = None, precision: float = 0.0) -> None:
        self._counts, self._product, self._precision = dict(counts or {}), product, precision

    def grown(self, counts: Mapping[_Kind, int]) -> _Composed:
        """The product with all of `counts` in it, which begin with what it holds; made anew where they do not."""
        if any(counts.get(kind, 0) < times for kind, times in self._counts.items()):
            return _Composed().grown(counts)
        more = {kind: times - self._counts.get(kind, 0) for kind, times in counts.items()}
        return self.times({kind: times for kind, times in more.items() if times})

    def times(self, counts: Mapping[_Kind, int]) -> _Composed:
        """The product with `counts` on top."""
        product, precision = self._product, self._precision
        for (mechanism, doubled), times in counts.items():
            if (sigma := _plain_sigma(mechanism)) is not None:
                precision += times * ((2 if doubled else 1) / sigma) ** 2
            else:
                part = _self_composed(mechanism, doubled, times)
                product = part if product is None else product.compose(part)
        whole = Counter(self._counts)
        whole.update(counts)
        return _Composed(whole, product, precision)

    def epsilon(self, delta: float) -> float:
        """The least epsilon at `delta`."""
        product = self._product
        if self._precision:
            gaussian = pld.from_gaussian_mechanism(standard_deviation=1 / math.sqrt(self._precision))
            product = gaussian if product is None else product.compose(gaussian)
        return float(product.get_epsilon_for_delta(delta))


def _seen(mechanism: Mechanism, unit: Unit, terms: Terms) -> bool | None:
    """Whether the sensitivity is doubled when looked at by `terms`; `None` where there is no bound.

    A larger unit's contribution with one row more or less is another contribution of norm C: two apart, as for
    `REPLACE_ONE`.
    """
    if unit.size < terms.unit.size:
        return None
    doubled = unit.size > terms.unit.size or terms.relation is Relation.REPLACE_ONE
    if doubled:
        return True
    if isinstance(mechanism, FixedSizeGaussian):
        return None
    if isinstance(mechanism, DiscreteGaussian | Skellam) and unit is Unit.PARTNER:
        # A partner that is not there takes its share of the noise along, and that is seen.
        return None if terms.relation is Relation.ADD_OR_REMOVE_ONE else False
    return False


def _kinds(counts: Tally, terms: Terms) -> dict[_Kind, int]:
    kinds: Counter[_Kind] = Counter()
    for (mechanism, unit), times in counts.items():
        doubled = _seen(mechanism, unit, terms)
        if times and doubled is not None:
            kinds[mechanism, doubled] += times
    return kinds


def _renyi(curves: Iterable[tuple[int, Curve]], delta: float) -> float:
    total = np.zeros_like(_ORDERS)
    for times, curve in curves:
        total += times * curve
    return float(rdp.compute_epsilon(_ORDERS, total, delta)[0])


def _far(parts: Iterable[Mapping[_Kind, int]], delta: float) -> bool:
    """Whether the PLD would be too large to compute, judged by Rényi curves of about the size of the true ones."""
    return _renyi(((times, _size(*kind)) for part in parts for kind, times in part.items()), delta) > _FAR


def _size(mechanism: Mechanism, doubled: bool) -> Curve:
    if isinstance(mechanism, TruncatedPoissonGaussian) and mechanism.cap >= int(mechanism.q * mechanism.records):
        return _curve(PoissonGaussian(q=mechanism.q, sigma=mechanism.sigma), True)
    return _curve(mechanism, doubled)


def _plain_sigma(mechanism: Mechanism) -> float | None:
    """The noise of a mechanism that is one Gaussian, whatever its form."""
    if isinstance(mechanism, Gaussian) or (isinstance(mechanism, PoissonGaussian) and mechanism.q == 1):
        return mechanism.sigma
    return None


def _has_pld(mechanism: Mechanism, doubled: bool) -> bool:
    if isinstance(mechanism, PoissonGaussian | TruncatedPoissonGaussian):
        twice = doubled or isinstance(mechanism, TruncatedPoissonGaussian)
        return mechanism.sigma >= _LEAST_SIGMA * (2 if twice else 1) or _plain_sigma(mechanism) is not None
    return isinstance(mechanism, Gaussian)


@lru_cache(maxsize=8)  # each may be megabytes
def _self_composed(mechanism: Mechanism, doubled: bool, times: int) -> Any:
    base = _distribution(mechanism, doubled)
    return base if times == 1 else base.self_compose(times)


@lru_cache(maxsize=16)
def _distribution(mechanism: Mechanism, doubled: bool) -> Any:
    relation = NeighboringRelation.REPLACE_ONE if doubled else NeighboringRelation.ADD_OR_REMOVE_ONE
    if isinstance(mechanism, TruncatedPoissonGaussian):
        return pld.from_truncated_subsampled_gaussian_mechanism(
            dataset_size=mechanism.records,
            sampling_probability=mechanism.q,
            truncated_batch_size=mechanism.cap,
            noise_multiplier=mechanism.sigma,
            neighboring_relation=relation,
        )
    if isinstance(mechanism, PoissonGaussian):
        return pld.from_gaussian_mechanism(
            standard_deviation=mechanism.sigma, sampling_prob=mechanism.q, neighboring_relation=relation
        )
    raise TypeError(mechanism)


@lru_cache(maxsize=4096)
def _curve(mechanism: Mechanism, doubled: bool) -> Curve:
    """Rényi divergence of one run at each order."""
    factor = 2.0 if doubled else 1.0
    match mechanism:
        case Gaussian(sigma=sigma):
            return _ORDERS * factor**2 / (2 * sigma**2)
        case PoissonGaussian(q=q, sigma=sigma) if doubled:
            return _replaced(q, sigma)
        case PoissonGaussian(q=q, sigma=sigma):
            return _library(dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(sigma)))
        case TruncatedPoissonGaussian(sigma=sigma):
            # What is pushed out of a full batch may differ too: two vectors apart, and nothing is said of sampling.
            return _ORDERS * 4 / (2 * sigma**2)
        case FixedSizeGaussian(sample=sample, records=records, sigma=sigma):
            # dp-accounting takes the noise relative to the sensitivity, which is twice the clipping norm here.
            inner = dp_event.GaussianDpEvent(sigma / 2)
            event = dp_event.SampledWithoutReplacementDpEvent(records, sample, inner)
            return _library(event, NeighboringRelation.REPLACE_ONE)
        case DiscreteGaussian(rho=rho, xi=xi):
            return xi + factor**2 * rho * _ORDERS
        case Skellam(mu=mu, l2=l2, l1=l1):
            return _skellam(mu, factor * l2, factor * l1)


def _replaced(q: float, sigma: float) -> Curve:
    """A Poisson sample in which one unit's vector is turned round: (1-q) N(0) + q N(1) against (1-q) N(0) + q N(-1).

    The same pair as for the PLD, integrated by the trapezoidal rule, which converges exponentially for these densities.
    """
    with np.errstate(divide="ignore"):
        here, away = np.log(q), np.log1p(-q)
    found = np.empty_like(_ORDERS)
    for place, order in enumerate(_ORDERS):
        low, high = -1 - 12 * sigma, 2 * order - 1 + 12 * sigma  # the integrand's peak moves out with the order
        x, step = np.linspace(low, high, math.ceil(16 * (high - low) / sigma), retstep=True)
        absent = away - x**2 / (2 * sigma**2)
        present, turned = (here - (x - side) ** 2 / (2 * sigma**2) for side in (1, -1))
        power = order * np.logaddexp(absent, present) + (1 - order) * np.logaddexp(absent, turned)
        mass = np.logaddexp.reduce(power) + np.log(step) - np.log(sigma * np.sqrt(2 * np.pi))
        found[place] = max(0.0, mass / (order - 1))
    return found


def _skellam(mu: float, l2: float, l1: float) -> Curve:
    """Agarwal, Kairouz, Liu 2021, theorem 3.5, which holds at whole orders; a divergence grows with its order."""
    order = np.ceil(_ORDERS)
    extra = np.minimum(((2 * order - 1) * l2**2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
    return np.asarray(order * l2**2 / (2 * mu) + extra)


def _library(event: Any, relation: Any = NeighboringRelation.ADD_OR_REMOVE_ONE) -> Curve:
    """The library's curve. It tells its log of every order that it leaves out; they are infinite in the curve."""
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    try:
        accountant = rdp.RdpAccountant(_ORDERS, relation)
        accountant.compose(event)
    finally:
        log.disabled = before
    return np.asarray(accountant.rdp)
