"""The question for texts: which pieces of one text speak for what the model says of it?

Layer integrated gradients over the embedding of the pieces (Sundararajan et al. 2017; captum), from the same text with
every piece masked: an id has no gradient, its vector has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Rule, names_axis
from aimass.explain.lpi.gradients import incompleteness, until_complete
from aimass.explain.lpi.image_map import check_of_order
from aimass.explain.lpi.maps import LogOdds
from aimass.explain.lpi.text_options import TextLpiOptions
from aimass.explain.results import Array, Columns, Result
from aimass.explain.texts import TextModel, Texts, lineage_of_texts
from aimass.explain.words import number, percent
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound

if TYPE_CHECKING:
    import torch

__all__ = ["TokenAttribution", "explain_text"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
_MOST_BARS: Final = 40
_BATCH: Final = 64
_ORDER_STEPS: Final = 16
"""An order is held against others at so many lengths."""
_SHOWS_NOT: Final = (
    "Which pieces this network leans on in this one text, not why; the vectors along the path stand for no words."
)


class TokenAttribution(Result, frozen=True, kw_only=True, eq=False, tag="lpi.tokens"):
    """`values` [pieces] in log-odds of `output`, by `pieces` of the text in their order.

    They sum to the log-odds of the text less those of the masked one, which they miss by the share `incomplete`.
    `beaten` is the share of random orders in which masking the pieces lowers the probability faster.
    """

    text: int
    output: str
    said: float
    masked: float
    pieces: tuple[str, ...]
    values: Array
    neutral: str
    steps: int
    incomplete: float
    beaten: float

    @property
    def rows_held(self) -> int:
        """The text that is explained."""
        return 1

    def views(self) -> Mapping[str, Result]:
        """The one that there is."""
        return {"tokens": self}

    def describe(self) -> tuple[str, ...]:
        """Which pieces have the largest values, and how complete they are."""
        order = [p for p in np.argsort(-np.abs(self.values), kind="stable")[:5] if self.values[p] != 0]
        sign = {True: "+", False: ""}
        told = ", ".join(f"{self.pieces[p]} ({sign[self.values[p] > 0]}{number(self.values[p])})" for p in order)
        said = f"The model says {self.output} of text {self.text + 1} with {percent(self.said)}"
        missed = f"The sum misses the change by {percent(self.incomplete)} of it ({self.steps} steps)"
        faster = f"lower the probability at least as fast as {percent(1 - self.beaten)} of random orders"
        return (
            f"{said}, of the same text with {self.neutral} for each piece with {percent(self.masked)}.",
            f"What speaks most, in log-odds: {told or 'nothing'}.",
            f"{missed}. Masked in their order, pieces {faster}.",
        )

    def headlines(self) -> tuple[str, ...]:
        """What is said, and what speaks most for it."""
        return self.describe()[:2]

    def picture(self) -> Picture:
        """The pieces in the order of the text; of long texts those with the largest values."""
        large = np.argsort(-np.abs(self.values), kind="stable")[:_MOST_BARS]
        shown = np.sort(large)
        left = f" The {len(self.values) - len(shown)} smallest are left out." if len(self.values) > len(shown) else ""
        values = self.values[shown]
        bars = Bars(
            np.arange(len(shown)),
            values,
            colours=tuple("more" if value > 0 else "less" for value in values),
            says=tuple(f"{self.pieces[p]}: {number(self.values[p])}" for p in shown),
        )
        axis = Axis(f"log-odds of {self.output}")
        panel = Panel("", axis, names_axis(tuple(self.pieces[p] for p in shown)), (bars, Rule(0.0)))
        return Picture(
            f"Which pieces speak for {self.output}",
            (panel,),
            f"From the first piece of the text down: right speaks for it, left against it.{left}",
            _SHOWS_NOT,
        )

    def to_columns(self) -> Columns:
        """A line a piece."""
        return {"piece": self.pieces, "value": self.values.tolist()}


def explain_text(
    model: TextModel, texts: Texts, options: TextLpiOptions = TextLpiOptions(), work: Work = Work()
) -> TokenAttribution:
    """Which pieces of one of `texts` speak for a class.

    Raises `BadInput` for a text that is none or has no pieces, or a network without an embedding; `NotFound` for a
    class that is none.
    """
    import torch  # noqa: PLC0415
    from captum.attr import LayerIntegratedGradients  # noqa: PLC0415

    if not 0 <= options.text < len(texts):
        raise BadInput("there is no such text", code="explain.text", value=options.text, limit=len(texts) - 1)
    ids = model.ids([texts.texts[options.text]])
    inner = ~model.vocabulary.is_mark(ids[0])
    if not inner.any():
        raise BadInput("the text is empty", code="explain.text", value=options.text)
    masked = np.where(inner, model.vocabulary.neutral, ids)
    said = model.predict_ids(np.concatenate([ids, masked]))
    place = _class(model, said[0], options.output)
    score = LogOdds(model.network, place)
    x, z = torch.from_numpy(ids), torch.from_numpy(masked)
    with torch.no_grad():
        change = float(score(x) - score(z))
    along = LayerIntegratedGradients(score, _embedding(model.network, x))

    def attribute(steps: int) -> torch.Tensor:
        work.check()
        work.tell(0.1, f"integrated gradients in {steps} steps")
        found: torch.Tensor = along.attribute(x, baselines=z, n_steps=steps, internal_batch_size=_BATCH)
        return found.sum(dim=2)[0]

    found, missed, steps = until_complete(attribute, change, options.steps)
    values = found.detach().double().numpy()[inner]
    work.tell(0.8, "random orders")
    beaten = _faster_orders(model, ids, masked, np.flatnonzero(inner), place, values, options.orders, work)
    return TokenAttribution(
        lineage=lineage_of_texts(model, texts, work),
        text=options.text,
        output=model.classes[place],
        said=float(said[0, place]),
        masked=float(said[1, place]),
        pieces=tuple(model.vocabulary.piece(int(one)) for one in ids[0, inner]),
        values=values,
        neutral=model.vocabulary.piece(model.vocabulary.neutral),
        steps=steps,
        incomplete=missed,
        beaten=beaten,
        checks=(incompleteness(missed), check_of_order(beaten, "pieces")),
    )


def _class(model: TextModel, said: Floats, name: str) -> int:
    if name and name not in model.classes:
        known = ", ".join(model.classes[:20])
        raise NotFound("the model has no such class", code="explain.output", value=name, limit=known)
    return model.classes.index(name) if name else int(said.argmax())


def _embedding(network: torch.nn.Module, ids: torch.Tensor) -> torch.nn.Module:
    """The embedding that is asked first: that of the pieces."""
    import torch  # noqa: PLC0415

    asked: list[torch.nn.Module] = []

    def saw(module: torch.nn.Module, *_: Any) -> None:
        asked.append(module)

    hooks = [one.register_forward_hook(saw) for one in network.modules() if isinstance(one, torch.nn.Embedding)]
    try:
        with torch.no_grad():
            network(ids)
    finally:
        for hook in hooks:
            hook.remove()
    if not asked:
        raise BadInput("the network has no embedding of pieces", code="explain.no_embedding")
    return asked[0]


def _faster_orders(
    model: TextModel,
    ids: Ids,
    masked: Ids,
    places: Ids,
    place: int,
    values: Floats,
    orders: int,
    work: Work,
) -> float:
    """The share of random orders in which masking the pieces, one after another, lowers the probability further."""
    rng = work.rng("lpi", "pieces")
    ranks = [np.argsort(np.argsort(-values, kind="stable"))] + [rng.permutation(len(values)) for _ in range(orders)]
    steps = np.unique(np.linspace(0, len(values), _ORDER_STEPS + 1).round().astype(int))[1:-1]
    if not len(steps):
        return 0.0
    means = []
    for rank in ranks:
        work.check()
        rows = np.repeat(ids, len(steps), axis=0)
        away = rank[None] < steps[:, None]
        rows[:, places] = np.where(away, masked[0, places], ids[0, places])
        means.append(float(model.predict_ids(rows)[:, place].mean()))
    return float((np.array(means[1:]) < means[0] - 1e-9).mean())
