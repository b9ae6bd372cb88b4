"""What daemon and training child say to each other, as JSON in `frames`.

The daemon trusts nothing that comes back: it is decoded strictly, and a contribution is a sealed memory file that can
no longer change while it is checked.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.client.coarse import EXACT, Coarseness
from aimass.proto.asking import ask_of, asked_in, phase_in
from aimass.proto.asks import Ask, AskedAnalysis
from aimass.proto.boosting import Boosting, boosting_in
from aimass.proto.compression import mask_key
from aimass.proto.errors import BadInput
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.methods import Method
from aimass.proto.personal import PERSONAL, trainings
from aimass.proto.plan import Compress, EvaluateSettings, Plan, PrivacySettings, TrainSettings
from aimass.proto.rng import stream_seed
from aimass.proto.step import Step, StepKind
from aimass.proto.surveys import SURVEYS, Survey, survey_of
from aimass.proto.values import Value

__all__ = ["APP_DEVICE", "ChildFault", "FlowerApp", "Open", "Opened", "Order", "Result", "order_of", "survey_in"]

APP_DEVICE: Final = "what the app chooses"
"""The device of an app. To ask torch which there are would load it, for apps that never do."""


class FlowerApp(Value, frozen=True):
    """An app of the partner's own and who it runs for: `reference` is its ClientApp as `module:attribute`.

    Where the run's sums are secret its replies are made into ordinary contributions.
    """

    folder: str
    reference: str
    node_id: int
    run_id: int
    run_config: dict[str, bool | int | float | str]
    secret_sums: bool


class Open(Value, frozen=True):
    """First order: lock yourself in, load the task if its files hash to `digest`, read the shard's descriptors.

    With `app` it is a Flower app that is loaded; the files and folders of its data set are `readable` and not read.

    Behind those of the shard comes the descriptor of the task's base, where it has one. Then, of several `ranks`, come
    those of its links: rank 0 has one to each other, in their order, the others the one to it.
    """

    task: str
    digest: str
    manifest: ShardManifest
    scratch: str
    forbidden: str
    parent: int
    limits: ChildLimits
    app: FlowerApp | None = None
    readable: tuple[str, ...] = ()
    rank: int = 0

    @property
    def links(self) -> int:
        """How many links come with it."""
        return self.limits.ranks - 1 if self.rank == 0 else 1


class Opened(Value, frozen=True):
    """The child is warm. Counts stay at the partner; `persons` are those of the training rows, 0 where not known;
    `gpu_bytes` the memory of the GPU that it computes on, 0 without one.

    An app counts its own rows, if it has any: all are 0.
    """

    device: str
    confinement: tuple[str, ...]
    training_rows: int
    held_out_rows: int
    persons: int = 0
    gpu_bytes: int = 0


class Order(Value, frozen=True):
    """Work of one step; descriptors of the step's inputs and of the local state that was kept come with it.

    With `privacy` training is private for each row or person; the seed, which the server knows, serves for nothing.
    `survey` says what an analysis of that kind asks, and `boosting` what a step of trees does, over rows that
    `coarseness` joins; `explain` is an analysis and `ask` what it is asked, of which this is phase `number`: in a
    `rehearsal`, which nothing leaves, on what this partner's own sums come to in place of the federation's. With
    `compress` the update is compressed, `mask` being the key of the round's mask; what is fed back is kept as the run's
    of `run_id`.
    """

    kind: StepKind
    purpose: str
    seed: str
    train: TrainSettings
    evaluate: EvaluateSettings
    privacy: PrivacySettings | None = None
    survey: Survey | None = None
    boosting: Boosting | None = None
    coarseness: Coarseness = EXACT
    explain: AskedAnalysis | None = None
    ask: Ask | None = None
    number: int = 0
    rehearsal: bool = False
    method: Method = "plain"
    run_id: str = ""
    compress: Compress | None = None
    mask: str = ""


def order_of(plan: Plan, step: Step, participant: str, run_id: str = "", coarseness: Coarseness = EXACT) -> Order:
    """A participant's work in a step of a run, of rows that are joined as the policy has it.

    Raises `BadInput` for a survey, trees, or a phase that the plan does not describe.
    """
    explains = phase_in(plan, step) is not None
    seed = stream_seed(plan.seed, participant, f"{step.kind}:{step.purpose}", step.round)
    return Order(
        kind=step.kind,
        purpose=step.purpose,
        seed=seed.hex(),
        train=trainings(plan)[-1] if step.purpose == PERSONAL else plan.train,
        evaluate=plan.evaluate,
        privacy=plan.privacy,
        survey=survey_in(plan, step),
        boosting=boosting_in(plan, step),
        coarseness=coarseness,
        explain=msgspec.structs.replace(asked_in(plan), shared=None) if explains else None,
        ask=ask_of(plan) if explains else None,
        number=step.round if explains else 0,
        method=plan.method,
        run_id=run_id,
        compress=plan.compress,
        mask=mask_key(plan.seed, step.round).hex(),
    )


def survey_in(plan: Plan, step: Step) -> Survey | None:
    """The survey that a step is of, if it is: with a second input, the bins to divide, the second of quantiles.

    Raises `BadInput` for one that the plan does not describe, and for bins to divide where it refines none: the server
    chooses them.
    """
    if step.kind is not StepKind.ANALYSE or step.purpose not in SURVEYS:
        return None
    second = len(step.inputs) > 1
    survey = survey_of(plan, step.purpose, refined=second)
    if second and not survey.refined:
        raise BadInput("the plan asks for no finer table", code="plan.refine", value=step.purpose)
    return survey


class Result(Value, frozen=True):
    """Done; sealed descriptors of the contribution and of the new local state come with it.

    `private_steps` is how many steps of the order's privacy were really done, 0 without: what a ledger commits.
    """

    seconds: float
    private_steps: Annotated[int, msgspec.Meta(ge=0)] = 0


class ChildFault(Value, frozen=True):
    """It failed. `code` and `place` may leave the partner, and so have no room for rows; but an app's author chooses
    both: `aimass.client.told` says when they do. `detail` never leaves."""

    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]{1,40}\.[A-Za-z_]{1,40}\Z")]
    place: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]{1,40}/[A-Za-z_]{1,40}\.py:[0-9]{1,6}\Z")]
    detail: str
