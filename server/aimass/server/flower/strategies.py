"""Which of Flower's strategies a secure sum serves, and the result of the strategy that an app ran last.

A secure sum gives one reply, with the mean: what is linear in the replies comes out as without it. Who looks at single
replies, or at their spread, would compute something else without a word, and is refused.
"""

from __future__ import annotations

# isort: off
import functools
from collections.abc import Callable
from typing import Any, Final

from aimass.proto.errors import Refused
from aimass.proto.flower.names import ArrayRecord
from aimass.proto.flower.private import arrays_of
from aimass.proto.flower.records import WEIGHT
from flwr.server import Server  # after `names`, the door
from flwr.serverapp.strategy import Strategy
# isort: on

__all__ = ["Results", "check_linear", "watched"]

_LINEAR: Final = frozenset({"FedAvg", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi"})
"""Those of flwr whose own aggregation takes nothing but the weighted mean; FedProx has that of FedAvg."""
_HOME: Final = "flwr.serverapp.strategy."


class Results:
    """What strategies came to, in order."""

    def __init__(self) -> None:
        self.arrays: ArrayRecord | None = None


def watched(results: Results, *, secure: bool) -> Callable[[], None]:
    """Watch `Strategy.start`, and the older `Server.fit`: of a secure run each strategy is checked first; what undoes
    it."""
    plain, older = Strategy.start, Server.fit

    @functools.wraps(plain)
    def start(self: Strategy, *args: Any, **kwargs: Any) -> Any:
        if secure:
            check_linear(self)
        result = plain(self, *args, **kwargs)
        if result.arrays:
            results.arrays = result.arrays
        return result

    @functools.wraps(older)
    def fit(self: Server, *args: Any, **kwargs: Any) -> Any:
        result = older(self, *args, **kwargs)
        if self.parameters.tensors:
            results.arrays = arrays_of(self.parameters)
        return result

    def undo() -> None:
        Strategy.start, Server.fit = plain, older

    Strategy.start, Server.fit = start, fit
    return undo


def check_linear(strategy: Strategy) -> None:
    """Raise `Refused` for a strategy that needs single replies, or weighs by something else than the sum does."""
    name = type(strategy).__name__
    for method in ("aggregate_train", "aggregate_evaluate"):
        owner = next(kind for kind in type(strategy).__mro__ if method in vars(kind))
        if owner.__name__ not in _LINEAR or not owner.__module__.startswith(_HOME):
            raise Refused(
                f"the strategy {name} needs the reply of each node: {owner.__name__}.{method} is not known to take "
                "their weighted mean alone, and that is all that secure sums give",
                code="flower.strategy",
                value=name,
                limit=", ".join(sorted(_LINEAR | {"FedProx"})),
                cure="Choose one of these, or submit a plan without [secure].",
            )
    if (weighted_by := getattr(strategy, "weighted_by_key", WEIGHT)) != WEIGHT:
        raise Refused(
            "secure sums weigh by another metric than this strategy",
            code="flower.weight",
            value=weighted_by,
            limit=WEIGHT,
            cure=f"Let the app name its weight {WEIGHT}.",
        )
