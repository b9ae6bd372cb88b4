"""The server's step of federated averaging, by algorithm: each class is its options and its rule, in the paper's lines.

Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2, element by element in float64:

    m <- beta_1 m + (1 - beta_1) delta
    v <- v + delta^2                                         FedAdagrad
    v <- beta_2 v + (1 - beta_2) delta^2                     FedAdam
    v <- v - (1 - beta_2) delta^2 sign(v - delta^2)          FedYogi
    x <- x + eta m / (sqrt(v) + tau)

`delta` is the weighted mean of new minus old parameters: the negative of a gradient, so it is added. m begins at zero
and v at tau^2, the least that the paper allows; no bias is corrected. All of it is a function of the sum alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.plan import Stage
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert_options
from aimass.server.drivers.robust import OPTIONS

__all__ = ["ALGORITHMS", "FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedYogi", "Rule", "rule_of"]

Rounds = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=100)]
Decay = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Floor = Annotated[float, msgspec.Meta(ge=1e-12, le=1)]


class FedAvg(Value, frozen=True):
    """The mean itself, times the server's learning rate (McMahan et al. 2017 where that is 1). Nothing is kept."""

    rounds: Rounds
    server_learning_rate: Rate = 1.0

    @property
    def first(self) -> tuple[float, ...]:
        """What each moment begins with."""
        return ()

    def moments(self, delta: Array) -> tuple[Array, ...]:
        """The moments after `delta`, from those before."""
        return (delta,)

    def step(self, delta: Array) -> Array:
        """What is added to the model."""
        delta *= self.server_learning_rate
        return delta


class FedAvgM(Value, frozen=True):
    """Momentum at the server (Hsu, Qi, Brown 2019): m <- beta m + delta, x <- x + eta m."""

    rounds: Rounds
    server_learning_rate: Rate = 1.0
    server_momentum: Decay = 0.9

    @property
    def first(self) -> tuple[float, ...]:
        """m."""
        return (0.0,)

    def moments(self, delta: Array, m: Array) -> tuple[Array, ...]:
        """m after `delta`."""
        return (self.server_momentum * m + delta,)

    def step(self, m: Array) -> Array:
        """What is added to the model."""
        return self.server_learning_rate * m


class _Adaptive(Value, frozen=True):
    """Steps that are smaller where updates have been large: x <- x + eta m / (sqrt(v) + tau)."""

    rounds: Rounds
    server_learning_rate: Rate = 0.1
    beta_1: Decay = 0.9
    tau: Floor = 1e-3

    @property
    def first(self) -> tuple[float, ...]:
        """m and v."""
        return 0.0, self.tau**2

    def moments(self, delta: Array, m: Array, v: Array) -> tuple[Array, ...]:
        """m and v after `delta`."""
        return self.beta_1 * m + (1 - self.beta_1) * delta, self.size(delta**2, v)

    def size(self, square: Array, v: Array) -> Array:
        """v after an update of this square: what the algorithms differ in."""
        raise NotImplementedError

    def step(self, m: Array, v: Array) -> Array:
        """What is added to the model."""
        made: Array = self.server_learning_rate * m / (np.sqrt(v) + self.tau)
        return made


class FedAdagrad(_Adaptive, frozen=True):
    """Steps shrink where updates were large in any round; as in the paper's experiments, no momentum."""

    beta_1: Decay = 0.0

    def size(self, square: Array, v: Array) -> Array:
        """The sum of all squares."""
        return v + square


class FedAdam(_Adaptive, frozen=True):
    """Steps follow the recent size of updates, which is forgotten by beta_2 a round."""

    beta_2: Decay = 0.99

    def size(self, square: Array, v: Array) -> Array:
        """A mean of the squares, the recent ones first."""
        return self.beta_2 * v + (1 - self.beta_2) * square


class FedYogi(_Adaptive, frozen=True):
    """As FedAdam, but v moves by no more than delta^2: it forgets large updates slowly."""

    server_learning_rate: Rate = 0.01
    beta_2: Decay = 0.99

    def size(self, square: Array, v: Array) -> Array:
        """Towards the square, by a part of the square."""
        made: Array = v - (1 - self.beta_2) * square * np.sign(v - square)
        return made


Rule = FedAvg | FedAvgM | FedAdagrad | FedAdam | FedYogi

ALGORITHMS: Final[dict[str, type[Rule]]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}
"""By the names that plans use."""


def rule_of(stage: Stage, beside: Collection[str] = ()) -> Rule:
    """The algorithm of a stage that averages, with its options; those in `beside` are the driver's own.

    Raises `BadInput` for one that is not known, for an option that it does not have, and for a value out of range.
    """
    others = (*OPTIONS, *beside)
    options = {name: value for name, value in stage.options.items() if name not in others}
    name = options.pop("algorithm", "fedavg")
    kind = ALGORITHMS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadInput(
            f"the {stage.driver} stage names an algorithm that is not known",
            code="plan.algorithm",
            value=name,
            limit=", ".join(ALGORITHMS),
            cure="Choose one of those, or leave options.algorithm out for fedavg.",
        )
    what = f"the options of the {stage.driver} stage ({name})"
    rule: Rule = convert_options(kind, options, what, str(name), others)
    return rule
