"""The views of this question one by one, for whom the whole takes too long: each is what `explain` says of it.

Functions are named as the views of `LpiResult` are. What a view needs of another is found anew.
"""

from __future__ import annotations

from aimass.explain.lpi.attribution import Attribution
from aimass.explain.lpi.attribution import attribution as attribution_of
from aimass.explain.lpi.cells import changes_of
from aimass.explain.lpi.counterfactual import Counterfactual, sought
from aimass.explain.lpi.faithfulness import Faithfulness
from aimass.explain.lpi.faithfulness import faithfulness as faithfulness_of
from aimass.explain.lpi.game import game_of
from aimass.explain.lpi.gradients import Gradients, network_of_table
from aimass.explain.lpi.gradients import gradients as gradients_of
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.lpi.whatif import WhatIf
from aimass.explain.lpi.whatif import what_if as what_if_of
from aimass.explain.models import Model
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["attribution", "counterfactual", "faithfulness", "gradients", "what_if"]


def attribution(
    model: Model, rows: Rows, options: LpiOptions, work: Work, *, background: Rows | None = None
) -> Attribution:
    """How far each feature moves the prediction from the average."""
    return attribution_of(game_of(model, rows, work, options, background=background), rows, options.row, work)


def what_if(model: Model, rows: Rows, options: LpiOptions, work: Work, *, background: Rows | None = None) -> WhatIf:
    """What the model would say with other cells; raises `BadInput` where none are named."""
    game = game_of(model, rows, work, options, background=background)
    return what_if_of(game, rows, options.row, changes_of(rows, options.what_if), work)


def counterfactual(
    model: Model, rows: Rows, options: LpiOptions, work: Work, *, background: Rows | None = None
) -> Counterfactual:
    """The nearest rows that are decided otherwise; raises `BadInput` of a number without a level that is named."""
    return sought(model, game_of(model, rows, work, options, background=background), rows, options, work)


def faithfulness(
    model: Model, rows: Rows, options: LpiOptions, work: Work, *, background: Rows | None = None
) -> Faithfulness:
    """Features taken away, and put in, in the order of their values and in others."""
    game = game_of(model, rows, work, options, background=background)
    found = attribution_of(game, rows, options.row, work.part(0.0, 0.7, "values"))
    return faithfulness_of(game, rows, found, options.orders, work.part(0.7, 1.0, "random orders"))


def gradients(
    model: Model, rows: Rows, options: LpiOptions, work: Work, *, background: Rows | None = None
) -> Gradients:
    """Integrated gradients beside the values; raises `BadInput` of a model that is no network."""
    network = network_of_table(model)
    if network is None:
        raise BadInput("the model is no network: it has no gradients", code="explain.no_network", value=model.name)
    game = game_of(model, rows, work, options, background=background)
    found = attribution_of(game, rows, options.row, work.part(0.0, 0.6, "values"))
    return gradients_of(model, network, game, rows, found, options.steps, work.part(0.6, 1.0, "gradients"))
