"""Which row is worth a look: rows under conditions and by what a model says of them, in the order that somebody wants.

For tables and for images with a label alike: it takes what was said, and what was true.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from aimass.explain.losses import LossName, losses
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.values import Value

__all__ = ["ORDERS", "WHICH", "Finding", "found_places", "orders_for"]

Floats = npt.NDArray[np.float64]
Which = Literal["all", "wrong", "right"]
Order = Literal["table", "highest", "lowest", "unsure", "worst"]
WHICH: Final[tuple[Which, ...]] = ("all", "wrong", "right")
ORDERS: Final[tuple[Order, ...]] = ("table", "highest", "lowest", "unsure", "worst")


class Finding(Value, frozen=True):
    """What is looked for."""

    which: Annotated[Which, Meta(description="all, or those that the model says wrongly, or rightly")] = "all"
    said: Annotated[str, Meta(description="those of which the model says this label; any if empty")] = ""
    order: Annotated[
        Order, Meta(description="as they stand, by what is predicted, the least sure or the most wrong first")
    ] = "table"


def orders_for(*, classifies: bool, labelled: bool) -> tuple[Order, ...]:
    """The orders that a model and its rows have."""
    left = {order for order, lacking in (("unsure", not classifies), ("worst", not labelled)) if lacking}
    return tuple(order for order in ORDERS if order not in left)


def found_places(
    finding: Finding,
    said: Floats,
    outputs: tuple[str, ...],
    labels: npt.NDArray[Any] | None,
    *,
    classifies: bool,
    among: npt.NDArray[np.bool_] | None = None,
    output: int = -1,
) -> npt.NDArray[np.int64]:
    """int64 [found]: places of what is looked for `among` [n], of which the model said float64 [n, outputs].

    `labels` are places in the outputs where the model classifies, else numbers; a negative place is not known. Highest
    and lowest are by the output at `output`. Raises `BadInput` for what hangs on labels where there are none, or on
    classes of a model without; `NotFound` for a label that is none.
    """
    kept = np.ones(len(said), np.bool_) if among is None else among.copy()
    if finding.which != "all":
        kept &= _judged(said, labels, classifies=classifies) == (finding.which == "right")
    if finding.said:
        kept &= said.argmax(axis=1) == _place(finding.said, outputs)
    places = np.flatnonzero(kept)
    keys = _keys(finding.order, said[places], None if labels is None else labels[places], classifies, output)
    return places if keys is None else places[np.argsort(keys, kind="stable")]


def _judged(said: Floats, labels: npt.NDArray[Any] | None, *, classifies: bool) -> npt.NDArray[np.int64]:
    """1 where what is said is true, 0 where it is not, 2 where nobody knows."""
    if labels is None:
        raise _unlabelled("right or wrong")
    if not classifies:
        raise BadInput("a number is neither right nor wrong", code="explain.find", cure="Order by the most wrong.")
    return np.where(labels < 0, 2, (said.argmax(axis=1) == labels).astype(np.int64))


def _place(name: str, outputs: tuple[str, ...]) -> int:
    if name not in outputs:
        known = ", ".join(outputs[:20])
        raise NotFound("the model has no such label", code="explain.output", value=name, limit=known)
    return outputs.index(name)


def _keys(
    order: Order,
    said: Floats,
    labels: npt.NDArray[Any] | None,
    classifies: bool,
    output: int,
) -> Floats | None:
    """Ascending, what is wanted first; None leaves them as they stand."""
    match order:
        case "highest":
            return -said[:, output]
        case "lowest":
            return said[:, output]
        case "unsure":
            if not classifies or said.shape[1] < 2:
                raise BadInput("the model is unsure between no labels", code="explain.find", value=order)
            top = np.sort(said, axis=1)
            found: Floats = top[:, -1] - top[:, -2]
            return found
        case "worst":
            return _losses(said, labels, classifies=classifies)
    return None


def _losses(said: Floats, labels: npt.NDArray[Any] | None, *, classifies: bool) -> Floats:
    """The loss with its sign turned; what nobody knows comes last."""
    if labels is None:
        raise _unlabelled("most wrong")
    loss: LossName = "log_loss" if classifies else "absolute_error"
    known = labels >= 0 if classifies else np.isfinite(labels)
    found = np.full(len(said), np.inf)
    found[known] = -losses(said[known], labels[known], loss)
    return found


def _unlabelled(what: str) -> BadInput:
    return BadInput(
        "nobody knows what was true of these rows",
        code="explain.labels",
        value=what,
        cure="Give rows with known outcomes, or look for others.",
    )
