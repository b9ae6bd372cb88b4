"""Gradient boosted trees over summed histograms (Chen & Guestrin 2016, algorithms 1 and 3; Friedman 2001).

The first step counts rows by parts of each number's range: bins are made of that, and the first margins of the labels.
Then a round grows a tree for each output, a step for each level: the sums of a level's histograms choose its splits,
which partners take their rows down by in the next. When no node splits any more, or the depth is reached, the trees
join the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.boosting import SUMS, Boosting, boosting_of, level_of, options_of, outputs_of
from aimass.proto.histograms import check_histograms, row_bounds
from aimass.proto.plan import Plan, Stage
from aimass.proto.plan_settings import TREES
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Blob, Layout, encode_numpy
from aimass.proto.trees import decode, encode
from aimass.proto.values import Value
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult
from aimass.server.drivers.levels import decode_level, encode_level, grown
from aimass.server.drivers.splits import Splits, best_splits
from aimass.server.drivers.stopping import judged
from aimass.server.drivers.tree_bins import chosen_edges, first_margins
from aimass.server.drivers.tree_noise import agreed
from aimass.server.drivers.tree_plans import check_trees

__all__ = ["TreesState", "driver"]

Floats = npt.NDArray[np.float64]


class TreesState(Value, frozen=True):
    """`round` rounds of trees are in `model`, and the `levels` of the next one's are blobs; `edges` is the blob of the
    bins' edges. `best`, `best_round` and `stale` serve early stopping."""

    model: str
    edges: str = ""
    levels: tuple[str, ...] = ()
    round: int = 0
    phase: Literal["train", "evaluate"] = "train"
    best: float | None = None
    best_round: int = 0
    stale: int = 0
    stopped: str = ""


class Trees:
    """The driver."""

    name = TREES
    state_type = TreesState

    def check(self, plan: Plan, stage: Stage) -> None:
        """Options in range, a plan that has nothing which trees would not do, and room for the histograms."""
        options_of(stage)
        check_trees(plan)
        boosting_of(plan).check(max(len(boosting_of(plan).schema.classes), 1))

    def start(self, context: Context, model: str) -> TreesState:
        """No round is grown."""
        return TreesState(model=model)

    def next(self, state: TreesState, context: Context) -> tuple[Step, ...] | Done:
        """Count, grow a level, or evaluate the model that the last round made."""
        rounds = options_of(context.stage).rounds
        if state.stopped:
            return Done(state.model, state.stopped)
        if state.phase == "evaluate":
            return (context.step_of_all(StepKind.EVALUATE, "", (state.model,), number=state.round),)
        if not state.edges:
            return (context.step_of_all(StepKind.ANALYSE, TREES, (state.model,)),)
        if state.round >= rounds:
            return Done(state.model, f"{rounds} rounds")
        inputs = (state.model, state.edges, *state.levels)
        return (context.step_of_all(StepKind.ANALYSE, TREES, inputs, number=state.round + 1),)

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        """Counts, or a level's histograms."""
        if step.kind is StepKind.EVALUATE:
            return {}
        boosting = boosting_of(plan)
        return {TREES: boosting.shapes(outputs_of(layout), level_of(boosting, step.inputs))}

    def check_sums(self, plan: Plan, step: Step, model: Blob, tensors: Mapping[str, Array]) -> None:
        """Every column of a node comes to the same sums, and no row adds more than by the model's loss it can. With
        noise neither holds."""
        boosting = boosting_of(plan)
        if step.kind is not StepKind.EVALUATE and len(step.inputs) > 1 and boosting.sums == SUMS:
            check_histograms(boosting, tensors, row_bounds(decode(model), boosting.schema))

    def receive(self, state: TreesState, result: StepResult, models: Models, context: Context) -> TreesState:
        """With bins, with a level more, or with a round's trees in the model; after evaluation, whether to stop."""
        if result.step.kind is StepKind.EVALUATE:
            return _judged(msgspec.structs.replace(state, phase="train"), result, models, context)
        boosting = boosting_of(context.plan)
        sums = {name: result.sums.total(TREES, name) for name in result.sums.tensors(TREES)}
        self.check_sums(context.plan, result.step, models.blob(state.model), sums)
        if not state.edges:
            return _begun(boosting, state, sums, models)
        histograms = np.stack([sums[name] for name in SUMS[:2]], axis=-1)
        splits = best_splits(boosting, histograms if boosting.sums == SUMS else agreed(boosting, histograms))
        if (splits.columns >= 0).any() and len(state.levels) + 1 < boosting.options.depth:
            return msgspec.structs.replace(state, levels=(*state.levels, models.put(encode_level(splits))))
        done = state.round + 1
        evaluate = context.plan.evaluate.follows(done, boosting.options.rounds)
        return msgspec.structs.replace(
            state,
            model=_with_trees(boosting, state, splits, models, context.plan.train.learning_rate),
            levels=(),
            round=done,
            phase="evaluate" if evaluate else "train",
        )

    def model(self, state: TreesState) -> str:
        """The model so far."""
        return state.model

    def progress(self, state: TreesState, context: Context) -> Progress:
        """Rounds grown and planned."""
        return Progress(state.round, options_of(context.stage).rounds)


def _begun(boosting: Boosting, state: TreesState, counts: Mapping[str, Floats], models: Models) -> TreesState:
    """With the bins' edges, and the labels' own margins where the model has no trees yet."""
    ensemble = decode(models.blob(state.model))
    edges = models.put(encode_numpy({"edges": chosen_edges(boosting, counts["grid"])}))
    if ensemble.trees:
        return msgspec.structs.replace(state, edges=edges)
    first = dataclasses.replace(ensemble, base=first_margins(ensemble.objective, counts["labels"], boosting.targets))
    return msgspec.structs.replace(state, edges=edges, model=models.put(encode(first)))


def _with_trees(boosting: Boosting, state: TreesState, last: Splits, models: Models, learning_rate: float) -> str:
    """The model with the round's trees, one for each output, after their `last` level."""
    ensemble = decode(models.blob(state.model))
    edges = models.blob(state.edges).numpy("edges")
    levels = [*(decode_level(models.blob(level)) for level in state.levels), last]
    trees = [grown(boosting, learning_rate, edges, levels, output) for output in range(len(ensemble.base))]
    return models.put(encode(dataclasses.replace(ensemble, trees=(*ensemble.trees, *trees))))


def _judged(state: TreesState, result: StepResult, models: Models, context: Context) -> TreesState:
    """Where the run stops early, with the trees of the best round alone."""
    after = judged(state, result, context.plan)
    if not after.stopped:
        return after
    ensemble = decode(models.blob(state.model))
    kept = len(ensemble.trees) - len(ensemble.base) * (after.round - after.best_round)
    best = dataclasses.replace(ensemble, trees=ensemble.trees[:kept])
    return msgspec.structs.replace(after, model=models.put(encode(best)))


driver = Trees()
