"""Which setting to try next, from what came of those before: a function of them and the search's seed alone.

The first settings are spread evenly (scrambled Sobol points, Owen 1998), so that what is far from the optimum is seen
too; then Optuna proposes by TPE over all settings together (Bergstra et al. 2011; multivariate: Falkner et al. 2018),
of several goals too (Ozaki et al. 2022). Its study is made anew from the trials each time, and its randomness from the
seed and the trial's number: so a search that was killed proposes what it would have proposed.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from aimass.explain.tune.space import Space
from aimass.proto.values import Scalar, Value

__all__ = ["Method", "Seen", "distributions", "spread", "suggested"]

Method = Literal["tpe", "spread"]
"""`spread` tries evenly spread settings alone: the best ground for telling which settings matter."""
_SPREAD: Final = 1 / 2
_FEWEST: Final = 10


class Seen(Value, frozen=True):
    """A trial as the sampler sees it: `values` of the goals, the metric first; none where it is still running.

    One that was `cut` was seen to be poor: its value is the metric where it was cut after so many rounds, or none.
    """

    settings: dict[str, Scalar]
    values: tuple[float, ...] = ()
    cut: bool = False
    cut_after: int = 0


def spread(trials: int) -> int:
    """How many of so many trials are spread evenly before what was seen decides: half, ten at least."""
    return min(trials, max(_FEWEST, math.ceil(_SPREAD * trials)))


def suggested(
    space: Space, seen: Sequence[Seen], trials: int, seed: int, method: Method = "tpe", again: int = 0
) -> dict[str, Scalar]:
    """The next setting after those that were `seen`, all of them in the order in which they were suggested.

    Asked `again` for a place, it is another one, as far as there are others.
    """
    place = len(seen)
    if method == "spread" or place < spread(trials):
        return _spread_out(space, place + again * trials, seed)
    import optuna  # noqa: PLC0415  (a second that only searching pays)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its experimental warnings
        kinds = distributions(optuna, space)
        own = int.from_bytes(hashlib.sha256(f"{seed}\0{place}\0{again}".encode()).digest()[:4], "big")
        study = optuna.create_study(
            directions=[_direction(space), *("minimize" for _ in space.also)],
            sampler=optuna.samplers.TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=0, seed=own, warn_independent_sampling=False
            ),
        )
        study.add_trials([_trial(optuna, one, kinds) for one in seen])
        return dict(study.ask(kinds).params)


def _spread_out(space: Space, place: int, seed: int) -> dict[str, Scalar]:
    """The point of this place in a scrambled Sobol sequence over the space."""
    from scipy.stats import qmc  # noqa: PLC0415  (half a second that only searching pays)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that balance asks for powers of two
        point = qmc.Sobol(len(space.settings), scramble=True, rng=seed).random(place + 1)[place]
    return {name: _value(space, name, float(at)) for name, at in zip(sorted(space.settings), point, strict=True)}


def _value(space: Space, name: str, at: float) -> Scalar:
    """The value that stands at this place, in [0, 1), of a setting's range."""
    setting, whole = space.settings[name], space.is_whole(name)
    if setting.choices:
        return setting.choices[int(at * len(setting.choices))]
    low, high = float(setting.low or 0), float(setting.high or 0)
    if setting.step is not None:
        return space.number(name, low + setting.step * int(at * (1 + math.floor((high - low) / setting.step + 1e-9))))
    if whole:
        low, high = low - 0.5, high + 0.5
    value = low * (high / low) ** at if setting.log else low + (high - low) * at
    return space.number(name, min(max(round(value), low + 0.5), high - 0.5)) if whole else value


def _direction(space: Space) -> str:
    return "maximize" if space.objective.better == "higher" else "minimize"


def distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """Of each setting what Optuna draws it from."""
    return {name: _distribution(optuna, space, name) for name in space.settings}


def _distribution(optuna: Any, space: Space, name: str) -> Any:
    setting, of = space.settings[name], optuna.distributions
    if setting.choices:
        return of.CategoricalDistribution(setting.choices)
    low, high = space.number(name, setting.low), space.number(name, setting.high)
    if space.is_whole(name):
        return of.IntDistribution(low, high, log=setting.log, step=1 if setting.step is None else int(setting.step))
    return of.FloatDistribution(low, high, log=setting.log, step=setting.step)


def _trial(optuna: Any, one: Seen, kinds: Mapping[str, Any]) -> Any:
    states = optuna.trial.TrialState
    state = states.PRUNED if one.cut else states.COMPLETE if one.values else states.RUNNING
    return optuna.trial.create_trial(
        params=one.settings,
        distributions=kinds,
        values=list(one.values) if state is states.COMPLETE else None,
        intermediate_values={one.cut_after: one.values[0]} if one.cut and one.values else {},
        state=state,
    )
