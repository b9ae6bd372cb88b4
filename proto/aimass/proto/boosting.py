"""Gradient boosted trees as partner and server agree on them from the plan: bins, histograms, levels.

Chen & Guestrin 2016 ("XGBoost: a scalable tree boosting system"), with histograms (section 3.3, and its `hist` method):
a round grows one tree for each output of the model, level by level. In each level partners sum, for every open node and
cell of every column, the gradients, the Hessians and the rows; splits are chosen on the sums alone.

All sums are of multiples of `UNIT`, so float64 and the lanes of secret sums add them exactly: trees do not depend on
how the rows are dealt to partners, and are the same in the plain and in secret.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Number, Schema
from aimass.proto.plan import Plan, PlanDraft, Stage
from aimass.proto.plan_settings import TREE_DEPTH, TREE_GRID, TREES
from aimass.proto.rows import Batch
from aimass.proto.step import Step, StepKind
from aimass.proto.surveys import bins_of, edges
from aimass.proto.tensors import Layout
from aimass.proto.values import Value, convert_options

__all__ = [
    "MOST_BOUND",
    "MOST_SUMS",
    "SUMS",
    "UNIT",
    "Boosting",
    "BoostingOptions",
    "boosting_in",
    "boosting_of",
    "level_of",
    "noise_of_trees",
    "on_grid",
    "options_of",
    "outputs_of",
]

UNIT: Final = 2.0**-20
"""Gradients and Hessians are rounded to multiples of it, row by row: to 2^33 rows float64 adds them exactly, or, where
the label is a number, to 2^33 divided by how far its bounds lie apart."""
MOST_BOUND: Final = 1e9
"""The largest `secure.real_bound` under which lanes hold multiples of `UNIT` exactly: 52 bits with a sign."""
MOST_SUMS: Final = 1 << 24
"""Numbers in one step's histograms."""
SUMS: Final = ("gradients", "hessians", "rows")
"""The tensors of a level's histograms, [trees x nodes, cells] each."""

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]


class BoostingOptions(Value, frozen=True):
    """A stage's options, named as XGBoost names them; the learning rate is `train.learning_rate`.

    `rounds` of trees of `depth` levels of splits over `bins` of each number, whose edges lie on a `grid` of equal parts
    of the schema's range. `lambda` is the L2 penalty of leaves, `gamma` the least gain of a split, `min_child_weight`
    the least Hessian of a side. In each round a row takes part with probability `subsample`.

    With `noise_multiplier` each partner adds Gaussian noise to every number that it sends, of so many times the largest
    L2 norm of what one row adds to a step's (`Boosting.row_norm`): differential privacy for each row (Maddock et al.
    2022, "Federated Boosted Decision Trees with Differential Privacy").
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    depth: Annotated[int, msgspec.Meta(ge=1, le=12)] = TREE_DEPTH
    bins: Annotated[int, msgspec.Meta(ge=2, le=1_000)] = 256
    grid: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = TREE_GRID
    penalty: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = msgspec.field(default=1.0, name="lambda")
    gamma: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    min_child_weight: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 1.0
    subsample: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    noise_multiplier: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0


def options_of(stage: Stage) -> BoostingOptions:
    """The options of a stage of trees; raises `BadInput` for one that there is not, or out of range."""
    return convert_options(BoostingOptions, stage.options, f"the options of `{stage.driver}`", stage.driver)


class Boosting(Value, frozen=True):
    """What a plan asks of every training row. Columns are the schema's numbers, then its categories."""

    schema: Schema
    options: BoostingOptions

    @property
    def widths(self) -> tuple[int, ...]:
        """Cells of each column: the bins of a number or the values of a category, and the cell of what is missing."""
        schema = self.schema
        return (*(self.options.bins + 1 for _ in schema.numbers), *(len(one.values) + 1 for one in schema.categories))

    @property
    def offsets(self) -> tuple[int, ...]:
        """The first cell of each column, and the end of the last."""
        return tuple(np.cumsum((0, *self.widths)).tolist())

    @property
    def columns(self) -> tuple[slice, ...]:
        """Where the cells of each column stand among those of all."""
        return tuple(slice(*pair) for pair in itertools.pairwise(self.offsets))

    def grid(self) -> npt.NDArray[np.float32]:
        """float32 [numbers, grid + 1]: where bins may begin and end. Edges are public, so that no threshold of a model
        is anybody's value."""
        parts = self.options.grid
        at = [np.linspace(one.minimum, one.maximum, parts + 1) for one in self.schema.numbers]
        edges = np.array(at, np.float32).reshape(-1, parts + 1)
        if edges.size:
            edges[:, -1] = np.nextafter(edges[:, -1], np.float32(np.inf))  # the largest value lies below the last edge
        return edges

    @property
    def sums(self) -> tuple[str, ...]:
        """The tensors of a level's histograms; with noise rows are not counted, as splits do not need them."""
        return SUMS[:2] if self.options.noise_multiplier else SUMS

    def row_norm(self, outputs: int, level: int | None) -> float:
        """The largest L2 norm of what one row adds to a level's histograms, or, with None, to the counts for bins.

        It is in one part of each number and has one label. Of a level it is in one cell of each column of each tree,
        where of one output g^2 + h^2 = p^2 (1 + (1 - p)^2) is 1 at most for a chance p of what it is not, and of more
        all together 2. By a squared error there is no bound.
        """
        if level is None:
            return math.sqrt(len(self.schema.numbers) + 1)
        return math.sqrt(len(self.widths) * (1 if outputs == 1 else 2))

    @property
    def targets(self) -> Floats:
        """What each count of labels stands for: a class's place, or of a number the middle of a part of its range."""
        label = self.schema.label
        if not isinstance(label, Number):
            return np.arange(len(label.values), dtype=np.float64)
        at = edges(label, self.options.grid)
        return np.asarray((at[1:] + at[:-1]) / 2)

    def targeted(self, labels: npt.NDArray[Any]) -> Cells:
        """int64 [rows]: the target that each label counts for."""
        label = self.schema.label
        return bins_of(labels, edges(label, self.options.grid)) if isinstance(label, Number) else labels

    def binned(self, numbers: npt.NDArray[np.float32], edges: npt.NDArray[np.float32]) -> Cells:
        """int64 [rows, numbers]: the bin of each value between its column's edges, and one more for what is missing."""
        missing = edges.shape[1] - 1
        found = [np.searchsorted(at[1:-1], column, side="right") for at, column in zip(edges, numbers.T, strict=True)]
        bins = np.stack(found, axis=1) if found else np.empty((len(numbers), 0), np.int64)
        return np.where(np.isnan(numbers), missing, bins).astype(np.int64)

    def cells(self, rows: Batch, edges: npt.NDArray[np.float32]) -> Cells:
        """int64 [rows, columns]: the cell of each value among those of its column."""
        last = np.array([len(one.values) for one in self.schema.categories], np.int64)
        named = np.where(rows.categories < 0, last, rows.categories)
        return np.concatenate([self.binned(rows.numbers, edges), named], axis=1)

    def shapes(self, outputs: int, level: int | None) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape by tensor: of a level's histograms, or, with None, of the counts for bins."""
        if level is None:
            counts = len(self.schema.numbers), self.options.grid
            return {"grid": ("F64", counts), "labels": ("F64", self.targets.shape)}
        return dict.fromkeys(self.sums, ("F64", (outputs << level, self.offsets[-1])))

    def check(self, outputs: int) -> None:
        """Raise `BadInput` for columns that trees do not split on, for more sums than a step should have, and for noise
        that would hide no row. A partner asks too: a server may say what no honest one would."""
        self._check_noise()
        if len(self.widths) != len(self.schema.columns):
            raise BadInput(
                "trees split on numbers and categories, and the schema has other columns",
                code="plan.trees",
                value=self.schema.name,
                cure="Take a task whose schema has numbers and categories alone.",
            )
        shapes = (*self.shapes(outputs, self.options.depth - 1).values(), *self.shapes(outputs, None).values())
        if (most := max(math.prod(shape) for _, shape in shapes)) > MOST_SUMS:
            raise BadInput(
                "the histograms of the last level have more numbers than a step should have",
                code="plan.trees",
                value=most,
                limit=MOST_SUMS,
                cure="Set `depth`, `bins` or `grid` lower.",
            )

    def _check_noise(self) -> None:
        """`row_norm` holds of a label that is a category alone, and where no row says which others take part."""
        if not self.options.noise_multiplier:
            return
        if not self.schema.classes:
            raise BadInput(
                "with noise the label of trees has to be a category: gradients of a squared error have no bound",
                code="plan.trees",
                value=self.schema.name,
                cure="Leave `noise_multiplier` out, or take a task whose label is a category.",
            )
        if self.options.subsample < 1:
            raise BadInput(
                "which rows a round of trees draws follows from all of them, so that with noise it takes all",
                code="plan.trees",
                value=self.options.subsample,
                limit=1,
                cure="Leave `subsample` out.",
            )


def boosting_of(plan: Plan) -> Boosting:
    """What the plan's stage of trees asks; raises `BadInput` where it has none, or no schema."""
    stage = next((stage for stage in plan.stages if stage.driver == TREES), None)
    if stage is None or plan.schema is None:
        raise BadInput(
            "the plan does not say what trees ask of which columns",
            code="plan.schema",
            value=TREES,
            cure="Submit the plan as a draft: `aimass run submit` and the SDK fill in the task's schema.",
        )
    return Boosting(schema=plan.schema, options=options_of(stage))


def noise_of_trees(plan: Plan | PlanDraft) -> float:
    """The noise multiplier of a plan's trees, 0 where it has none."""
    found = [stage.options.get("noise_multiplier", 0.0) for stage in plan.stages if stage.driver == TREES]
    return min((float(each) for each in found if isinstance(each, int | float)), default=0.0)


def boosting_in(plan: Plan, step: Step) -> Boosting | None:
    """What is asked where a step grows trees, or counts for their bins.

    Raises as `boosting_of`, and as `Boosting.check`: a plan that no honest server takes would fill a partner's memory.
    """
    if step.kind is not StepKind.ANALYSE or step.purpose != TREES:
        return None
    boosting = boosting_of(plan)
    boosting.check(max(len(boosting.schema.classes), 1))
    return boosting


def level_of(boosting: Boosting, inputs: Sequence[Any]) -> int | None:
    """The level that a step is of, by its inputs: the model alone where bins are counted (None); then the model, the
    bins' edges, and the levels before it. Raises `BadInput` for one deeper than the plan's."""
    level = len(inputs) - 2
    if level >= boosting.options.depth:
        raise BadInput("a level below the plan's last", code="plan.depth", value=level, limit=boosting.options.depth)
    return level if len(inputs) > 1 else None


def outputs_of(model: Layout) -> int:
    """How many trees a round grows; raises `BadInput` where the model is none of trees."""
    form = model.shapes().get("ensemble.base")
    if form is None or len(form[1]) != 1:
        raise BadInput(
            "the driver `trees` grows models of trees, and the task's is another",
            code="plan.trees",
            cure="Take a task of trees, such as `heart-trees`, or another driver.",
        )
    return form[1][0]


def on_grid(values: Floats) -> Floats:
    """The nearest multiples of `UNIT`."""
    return np.rint(values / UNIT) * UNIT
