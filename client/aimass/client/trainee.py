"""What an order comes to on a shard, with privacy or without: the same in the training child and in a simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from aimass.client import fednova, scaffold, trainer, trees
from aimass.client.analyses import analyse, analyse_privately
from aimass.client.capacity import ONE_CPU, Capacity
from aimass.client.coarse import EXACT
from aimass.client.compressing import RESIDUAL, compressed
from aimass.client.explaining import Rehearsal, explained, explained_privately
from aimass.client.fine_tuning import fine_tuned
from aimass.client.local_state import RUN, State, pack_state, run_section, section_of, unpack_state
from aimass.client.own_layers import with_own_layers
from aimass.client.shards import Shard
from aimass.client.surveys import surveyed, surveyed_privately
from aimass.client.worker_protocol import Order
from aimass.privacy.dp.private_terms import tree_noise
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.analysis import Analysis
from aimass.proto.asking import approved
from aimass.proto.asks import Ask, AskedAnalysis
from aimass.proto.boosting import Boosting, level_of
from aimass.proto.compression import Codec
from aimass.proto.contribution import Contribution
from aimass.proto.elements import update_shapes
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.personal import PERSONAL
from aimass.proto.step import StepKind
from aimass.proto.surveys import Survey
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.tree_task import TreeTask

if TYPE_CHECKING:
    from aimass.client.private_trainer import PrivateTrainer

__all__ = ["Done", "Trainee"]

_ROUNDING: Final = b"AIMass update rounding v1\0"


class Done(NamedTuple):
    """The contribution, the new local state, how many private steps were done (none without privacy), and the personal
    model where one was made."""

    contribution: Contribution
    state: State
    private_steps: int = 0
    personal: State = b""


class Trainee:
    """Does orders for one task."""

    def __init__(self, task: Task, capacity: Capacity = ONE_CPU) -> None:
        self._task, self._capacity = task, capacity
        self._private: PrivateTrainer | None = None
        self._ground: trees.Ground | None = None
        self._rehearsal = Rehearsal()
        self._analysis: tuple[tuple[AskedAnalysis, Ask], Analysis] | None = None

    def do(self, order: Order, shard: Shard, inputs: Sequence[Blob], state: State) -> Done:
        """The first input is the model. Without a privacy of its kind an order is done without: no private step."""
        privacy, model = order.privacy, inputs[0]
        if order.kind in (StepKind.TRAIN, StepKind.EVALUATE):
            model = with_own_layers(model, state, order.train.keep_local)
        match order.kind:
            case StepKind.TRAIN if privacy is not None:
                made = self._privately().train(shard, model, state, order.train, privacy)
                return _sent(order, model, state, Done(made.contribution, made.state, made.steps))
            case StepKind.TRAIN:
                return _sent(order, model, state, Done(*self._trained(order, shard, (model, *inputs[1:]), state)))
            case StepKind.EVALUATE if privacy is not None and privacy.metrics is not None:
                return Done(self._privately().evaluate(shard, model, privacy.metrics), state, 1)
            case StepKind.EVALUATE if order.purpose == PERSONAL:
                seed = bytes.fromhex(order.seed)
                tuned = fine_tuned(self._task, shard, model, seed, order.train, self._capacity)
                measured = trainer.evaluate(self._task, shard, tuned, order.evaluate, self._capacity)
                return Done(measured, state, personal=tuned.data)
            case StepKind.EVALUATE:
                return Done(trainer.evaluate(self._task, shard, model, order.evaluate, self._capacity), state)
            case _ if order.survey is not None:
                return self._survey(order.survey, order, shard, inputs, state)
            case _ if order.explain is not None and order.ask is not None:
                return self._explain(order.explain, order.ask, order, shard, inputs, state)
            case _ if order.boosting is not None:
                return self._trees(order.boosting, order, shard, inputs, state)
            case _ if privacy is not None and privacy.analyses is not None:
                return Done(analyse_privately(order.purpose, shard, model, privacy.analyses, NoiseStream()), state, 1)
            case _:
                return Done(analyse(order.purpose, shard, model), state)

    def _trained(self, order: Order, shard: Shard, inputs: Sequence[Blob], state: State) -> tuple[Contribution, bytes]:
        """Training without privacy, by the plan's method."""
        task, seed, settings, capacity = self._task, bytes.fromhex(order.seed), order.train, self._capacity
        match order.method:
            case "scaffold":
                return scaffold.train(task, shard, inputs, state, seed, settings, capacity)
            case "fednova":
                return fednova.train(task, shard, inputs[0], seed, settings, capacity)
            case _:
                return trainer.train(task, shard, inputs[0], state, seed, settings, capacity)

    def _survey(self, survey: Survey, order: Order, shard: Shard, inputs: Sequence[Blob], state: State) -> Done:
        self._check_schema(survey.schema)
        chosen = inputs[1] if len(inputs) > 1 else None
        if order.privacy is None or order.privacy.analyses is None:
            return Done(surveyed(survey, shard.train, chosen), state)
        made = surveyed_privately(survey, shard.train, order.privacy.analyses, NoiseStream(), chosen)
        return Done(made, state, 1)

    def _explain(
        self, asked: AskedAnalysis, ask: Ask, order: Order, shard: Shard, inputs: Sequence[Blob], state: State
    ) -> Done:
        """By the analysis that the plan names, once its files are those that are approved."""
        if self._analysis is None or self._analysis[0] != (asked, ask):
            self._analysis = (asked, ask), approved(asked, ask)
        analysis, least = self._analysis[1], asked.group
        if order.rehearsal:
            made = self._rehearsal.step(analysis, ask, order.number, self._task, shard, inputs[0], least)
            return Done(made, state)
        if order.privacy is None or order.privacy.analyses is None:
            return Done(explained(analysis, ask, order.number, self._task, shard, inputs, least), state)
        noise = order.privacy.analyses
        made = explained_privately(analysis, ask, order.number, self._task, shard, inputs, noise, NoiseStream())
        return Done(made, state, 1)

    def _trees(self, boosting: Boosting, order: Order, shard: Shard, inputs: Sequence[Blob], state: State) -> Done:
        """By the loss of the task that is approved here: one that has none of trees sums nothing for them.

        Where there is noise no rows are joined: who joins them would depend on others, and noise is for one.
        """
        if not isinstance(self._task, TreeTask):
            raise BadInput(
                "the task that is approved here grows no trees", code="trainer.trees", value=type(self._task).__name__
            )
        self._check_schema(boosting.schema)
        level, empty, private = level_of(boosting, inputs), self._task.empty(), boosting.options.noise_multiplier > 0
        coarseness = EXACT if private else order.coarseness
        if level is None:
            made = trees.counted(boosting, shard.train, coarseness)
        else:
            ground = trees.grounded(boosting, shard.train, inputs, coarseness, empty.objective, self._ground)
            made, self._ground = trees.summed(ground, inputs[2:], bytes.fromhex(order.seed)), ground
        if not private:
            return Done(made, state)
        noise = tree_noise(boosting, len(empty.base), level)
        return Done(trees.noisy(made, noise, empty.objective, NoiseStream()), state, 1)

    def _check_schema(self, schema: Schema) -> None:
        """The plan's columns must be those of the task that is approved here."""
        if schema != self._task.schema:
            raise BadInput(
                "the plan asks about other columns than the task has",
                code="trainer.schema",
                value=schema.digest,
                limit=self._task.schema.digest,
            )

    def _privately(self) -> PrivateTrainer:
        from aimass.client.private_trainer import PrivateTrainer  # noqa: PLC0415  (Opacus: seconds, for who needs it)

        self._private = self._private or PrivateTrainer(
            self._task, self._capacity.device, batch_rows=self._capacity.batch_rows
        )
        return self._private


def _sent(order: Order, model: Blob, state: State, done: Done) -> Done:
    """What training came to in the form that the plan sends it in; after noise, where there is some."""
    if order.compress is None:
        return done
    codec = Codec(order.compress, bytes.fromhex(order.mask), update_shapes(model.layout, order.train.keep_local))
    seed = hashlib.sha256(_ROUNDING + bytes.fromhex(order.seed)).digest()
    contribution, residual = compressed(codec, done.contribution, section_of(state, RESIDUAL), seed)
    if not residual:
        return done._replace(contribution=contribution)
    kept = {**unpack_state(done.state), RESIDUAL: residual, RUN: run_section(order.run_id)}
    return done._replace(contribution=contribution, state=pack_state(kept))
