"""Training with differential privacy for each row or person: DP-SGD (Abadi et al. 2016, algorithm 1) on a shard.

`(task, shard, model, state, settings, privacy) -> contribution`: in each step a Poisson sample of the rows or persons,
each one's gradient clipped, their sum with noise, divided by a public number, and the optimiser's step on that.
Sampling, noise and dropout come from secret randomness that is made for one training and never repeats: equal inputs,
other bytes.

What leaves is made from the noised sums alone: the optimiser's moments, weight decay, the proximal term and layers that
stay here (`keep_local`), which are clipped and noised like all others because what leaves later is trained on top of
them, are post-processing. How long the work takes, and whether it fails, is not covered.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from aimass.client.local_state import Section, State, pack_state, section_of
from aimass.client.optimizer_state import OPTIMIZER, moments_of, restore_optimizer
from aimass.client.own_layers import OWN, own_of
from aimass.client.private_checks import require_private
from aimass.client.private_gradients import ClippedSums, row_losses, trained
from aimass.client.private_metrics import measures_of, noised_metrics
from aimass.client.private_sampling import PersonSampler, RowSampler, Sampler, VirtualBatch
from aimass.client.shards import Shard
from aimass.client.trainer import held_out_probabilities, of_metrics, on_one_thread, optimizer_of, update_of
from aimass.privacy.dp.gaussian import GridNoise, noised
from aimass.privacy.dp.private_terms import grid_noise, units_of
from aimass.privacy.dp.streams import NoiseStream, Token
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Category
from aimass.proto.plan import MetricNoise, PrivacySettings, TrainSettings
from aimass.proto.task import Task, load_parameters
from aimass.proto.tensors import Blob

__all__ = ["PrivateTrainer", "PrivatelyTrained", "fresh_noise"]

Noise = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""A clipped sum in, the sum with noise out; every call draws anew."""


def fresh_noise(noise: GridNoise) -> Noise:
    """Noise from a stream of its own, whose key nobody else has."""
    stream = NoiseStream()
    return lambda values: noised(noise, values, stream)


@dataclasses.dataclass(frozen=True, slots=True)
class PrivatelyTrained:
    """The contribution, the new local state, and how many steps were really done: what a ledger commits."""

    contribution: Contribution
    state: bytes
    steps: int


class PrivateTrainer:
    """Trains and evaluates one task's model privately, after it has looked whether that can be done; it looks once.

    `token` gives secret bytes, `noise` makes the noise of one training; both are for tests to replace. `batch_rows` is
    how many rows this machine holds at once, 0 being the plan's number; a person's rows stay together.
    """

    def __init__(
        self,
        task: Task,
        device: str = "cpu",
        token: Token = secrets.token_bytes,
        noise: Callable[[GridNoise], Noise] = fresh_noise,
        batch_rows: int = 0,
    ) -> None:
        self._task, self._device, self._token, self._noise = task, device, token, noise
        self._batch_rows = batch_rows
        self._looked = False

    def train(
        self,
        shard: Shard,
        parameters: Blob,
        local_state: State,
        settings: TrainSettings,
        privacy: PrivacySettings,
    ) -> PrivatelyTrained:
        """`settings.steps` steps from `parameters`.

        Raises `Refused` for a model whose rows cannot be kept apart, or persons who are not known, and `BadInput` where
        training diverges or the settings are no private plan's.
        """
        if settings.steps is None:
            raise BadInput("a private step counts its steps", code="private.steps", cure="Give `train.steps`.")
        self._look()
        # Nothing here repeats, so nothing is gained by slower kernels. Torch's own randomness is for dropout: a mask
        # falls on a place in the batch, and which row has that place depends on who else was drawn; only masks that
        # nobody knows are the same to every row. A server knows the plan's seed.
        on_one_thread(deterministic=False)
        torch.manual_seed(int.from_bytes(self._token(8), "little", signed=True))
        model = self._task.build()
        load_parameters(model, parameters)
        model.to(self._device).train()
        moments = self._optimise(model, shard, section_of(local_state, OPTIMIZER), settings, privacy)
        _keep_the_rest(model, parameters)
        state = pack_state({OPTIMIZER: moments, OWN: own_of(model, settings.keep_local)})
        return PrivatelyTrained(update_of(model, parameters, 1.0, settings), state, settings.steps)

    def evaluate(self, shard: Shard, parameters: Blob, setting: MetricNoise) -> Contribution:
        """Noised metrics of `parameters` on the held-out rows; raises `Refused` as `train` does.

        Each row is scored alone: beside others a kernel may round it otherwise, and one row more would then move others
        over the edges of their bins.
        """
        self._look()
        if not isinstance(self._task.schema.label, Category):
            raise Refused(
                "metrics with noise are made for labels that are categories",
                code="private.metrics",
                value=self._task.schema.label.name,
                cure="Leave `metrics` out of the plan's `[privacy]`.",
            )
        chances = held_out_probabilities(self._task, shard, parameters, 1, self._device)
        metrics = noised_metrics(chances, shard.held_out.labels, setting, NoiseStream(self._token))
        names = measures_of(self._task)
        return of_metrics({name: metric for name, metric in metrics.items() if name in names})

    def _look(self) -> None:
        if not self._looked:
            require_private(self._task)
            self._looked = True

    def _at_once(self, settings: TrainSettings, privacy: PrivacySettings) -> int:
        own = self._batch_rows or settings.batch_size
        return max(min(settings.batch_size, own), privacy.rows_per_person or 1)

    def _optimise(
        self,
        model: torch.nn.Module,
        shard: Shard,
        moments: Section,
        settings: TrainSettings,
        privacy: PrivacySettings,
    ) -> Section:
        parameters = list(trained(model).values())
        anchors = [parameter.detach().clone() for parameter in parameters] if settings.proximal_mu else None
        optimizer = optimizer_of(parameters, settings)
        if settings.keep_optimizer:
            restore_optimizer(optimizer, moments)
        rows = _Rows(self._task, shard, self._device)
        sums = ClippedSums(model, privacy.clip)
        noise = self._noise(grid_noise(privacy, sums.count))
        sampler = _sampler(shard, self._at_once(settings, privacy), privacy, self._token)
        for _ in range(settings.steps or 0):
            total = sums.zeros()
            for batch in sampler.draw():  # an empty sample is a step of noise alone
                inputs, labels, persons = rows.at(batch)
                sums.add(total, row_losses(self._task, model(*inputs), labels), persons)
            # Divided by the plan's number, never by the rate times the rows here: the scale of the noise would tell
            # the rows, and a neighbour has one more.
            noisy = torch.from_numpy(noise(total.cpu().numpy()) / privacy.divisor).to(self._device)
            for place, (parameter, part) in enumerate(sums.parts(noisy)):
                parameter.grad = part.to(parameter.dtype)
                if anchors is not None:
                    parameter.grad.add_(parameter.detach() - anchors[place], alpha=settings.proximal_mu)
            optimizer.step()
        sums.close()
        return moments_of(optimizer) if settings.keep_optimizer else {}


def _sampler(shard: Shard, size: int, privacy: PrivacySettings, token: Token) -> Sampler:
    """What draws the plan's unit; raises `Refused` for persons where the data set does not say whose its rows are."""
    rate = privacy.sampling_rate
    units = units_of(privacy, len(shard.train.labels), shard.person_count)
    if privacy.rows_per_person is None or shard.persons is None:
        return RowSampler(units, rate, privacy.cap(units), size, token)
    return PersonSampler(shard.persons, rate, privacy.cap(units), privacy.rows_per_person, size, token)


class _Rows:
    """A shard's training rows as the model takes them."""

    def __init__(self, task: Task, shard: Shard, device: str) -> None:
        self._device = device
        self._inputs = tuple(argument.to(device) for argument in task.inputs(shard.train))
        self._labels = torch.from_numpy(shard.train.labels).to(device)

    def at(self, batch: VirtualBatch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]:
        index = torch.from_numpy(batch.rows).to(self._device)
        persons = None if batch.persons is None else torch.from_numpy(batch.persons).to(self._device)
        return tuple(argument[index] for argument in self._inputs), self._labels[index], persons


def _keep_the_rest(model: torch.nn.Module, parameters: Blob) -> None:
    """Raise `Refused` where anything but a trained parameter has changed: it saw rows, and had no noise."""
    own = trained(model)
    for name, value in model.state_dict().items():
        # By their bits: a NaN that stays is no change.
        if name not in own and not torch.equal(*(_bits(each.cpu()) for each in (value, parameters.torch(name)))):
            raise Refused(
                "training changed a buffer: it saw rows, and differential privacy covers trained parameters alone",
                code="private.buffers",
                value=name,
                cure="Take out layers that keep statistics; `aimass task check` names them.",
            )


def _bits(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8)
