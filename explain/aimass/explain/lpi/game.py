"""What is asked about a row: one output of a model, on a scale, held against a background, by groups of columns."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.association import association
from aimass.explain.lineage import Lineage
from aimass.explain.lpi.background import Background, background_of
from aimass.explain.lpi.cells import cells_of
from aimass.explain.lpi.groups import Group, groups_of
from aimass.explain.lpi.options import LpiOptions, Method
from aimass.explain.lpi.sampling import sampled_shapley
from aimass.explain.lpi.scale import Scale, on_scale
from aimass.explain.lpi.shapley import MOST_PLAYERS, Shapley, exact_shapley
from aimass.explain.models import Model, Predict, asked, lineage_of
from aimass.explain.outputs import output_of
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work, quiet

__all__ = ["Game", "game_of"]

Floats = npt.NDArray[np.float64]
_TOLD_TOGETHER: Final = 0.9
_LEAST_ROWS: Final = 10
_MOST_ROWS: Final = 5_000
_MOST_FEATURES: Final = 200
"""Of more, pairs that tell the same are not looked for."""


@dataclasses.dataclass(frozen=True)
class Game:
    """`predict` maps float64 [n, features] to [n, 1]: the one output on its scale.

    `reference` are the rows that ranges and values are taken from: those that the background is of.
    """

    lineage: Lineage
    features: tuple[Feature, ...]
    output: str
    scale: Scale
    predict: Predict
    groups: tuple[Group, ...]
    background: Background
    reference: Rows
    method: Method = "auto"
    pairs: int = 200

    @property
    def exact(self) -> bool:
        """Whether all coalitions are computed."""
        return self.method == "exact" or (self.method == "auto" and len(self.groups) <= MOST_PLAYERS)

    def shapley(self, rows: Floats, work: Work) -> Shapley:
        """Of rows [n, features], exactly or from pairs of orders, as many as use each reference alike."""
        columns = [group.columns for group in self.groups]
        values, weights = self.background.values, self.background.weights
        if self.exact:
            return exact_shapley(self.predict, rows, values, weights=weights, groups=columns, work=work)
        pairs = -(-self.pairs // len(values)) * len(values)
        return sampled_shapley(self.predict, rows, values, pairs=pairs, weights=weights, groups=columns, work=work)

    def worths(self, cells: Floats, inside: npt.NDArray[np.bool_], work: Work) -> Floats:
        """float64 [k]: the mean prediction over the background, with the row's cells `inside` [k, groups] alone."""
        different, inverse = np.unique(inside, axis=0, return_inverse=True)
        owner = np.empty(len(cells), np.int64)
        for place, group in enumerate(self.groups):
            owner[list(group.columns)] = place
        references = self.background.values
        share = self.background.weights / self.background.weights.sum()
        found = np.empty(len(different))
        for part in work.chunks(len(different), 16 * references.size):
            rows = np.where(different[part][:, None, owner], cells, references)
            found[part] = self.predict(rows.reshape(-1, len(cells))).reshape(-1, len(references)) @ share
            work.tell(part.stop / len(different), "coalitions")
        return found[inverse.ravel()]

    def titles(self) -> tuple[str, ...]:
        """The groups by name."""
        return tuple(group.name for group in self.groups)

    def told(self, cells: Floats) -> tuple[str, ...]:
        """One row's cells by group, as a person reads them."""
        return tuple(group.told(self.features, cells) for group in self.groups)

    def limits(self, cells: Floats) -> tuple[str, ...]:
        """What of a row [features] limits what can be said of it."""
        odd = [
            f"{f.name} has a value that is none of the known ones: the model was never trained with it."
            for f, cell in zip(self.features, cells, strict=True)
            if f.kind == "category" and not np.isnan(cell) and not 0 <= cell < max(len(f.values), 1)
        ]
        if np.isnan(cells).all():
            odd.append("All cells of the row are missing: what is told is the model's way with missing values.")
        return (*odd, *self._together())

    def _together(self) -> tuple[str, ...]:
        """Columns that tell the same but are credited apart."""
        if len(self.reference) < _LEAST_ROWS or len(self.features) > _MOST_FEATURES:
            return ()
        some = self.reference.take(slice(None, None, -(-len(self.reference) // _MOST_ROWS)))
        ties = np.triu(association(some), 1) >= _TOLD_TOGETHER
        owner = {column: place for place, group in enumerate(self.groups) for column in group.columns}
        names = [f.name for f in self.features]
        return tuple(
            f"{names[one]} and {names[other]} tell the same: how credit is divided between them hangs on the model "
            "alone. As a group they have one value."
            for one, other in np.argwhere(ties).tolist()
            if owner[one] != owner[other]
        )


def game_of(
    model: Model, rows: Rows, work: Work, options: LpiOptions = LpiOptions(), *, background: Rows | None = None
) -> Game:
    """The game of `model` over `rows`, about the output that `output_of` chooses for the row that is explained.

    References come from `background`, or from `rows` themselves. Raises `BadInput` where there is nothing to hold
    against or the columns differ, `NotFound` for a label that the model does not know.
    """
    lineage = lineage_of(model, rows, work)
    against = rows if background is None else background
    lineage_of(model, against, work)  # refuses other columns
    whole = asked(model, dataclasses.replace(work, tell=quiet))  # each view tells how far it is itself
    place = output_of(model, whole(cells_of(rows, options.row)[None]), options.output)
    scale: Scale = options.scale if model.classifies else "number"

    def predict(values: Floats) -> Floats:
        return on_scale(whole(values)[:, place : place + 1], scale)

    return Game(
        lineage,
        rows.features,
        model.outputs[place],
        scale,
        predict,
        groups_of(against, options.groups, options.correlated),
        background_of(against, options.references, options.background_by, work),
        against,
        options.method,
        options.pairs,
    )
