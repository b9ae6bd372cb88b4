"""What partners that lie send in the place of their update: the attacks of `./scripts/bench robust`.

The liars are the last partners by name, so that they know what all the others sent when it is their turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from aimass.client.shards import Shard
from aimass.proto.contribution import Contribution
from aimass.proto.step import Step
from aimass.server.simulate import Protect

__all__ = ["ATTACKS", "Attack", "flipped"]

Update = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class Attack:
    """`lie` gives an update for the liar's own and the honest ones' mean; where it is None labels are flipped."""

    title: str
    lie: Callable[[Update, Update, np.random.Generator], Update] | None

    def protect(self, liars: Sequence[str], seed: int) -> Protect:
        """As a simulation takes it."""
        honest: list[Update] = []

        def arrives(step: Step, partner: str, made: Contribution) -> Contribution:
            group = made.groups["update"]
            if partner == step.participants[0]:
                honest.clear()
            if partner not in liars:
                honest.append(dict(group.tensors))
                return made
            if self.lie is None:
                return made
            mean = {name: np.mean([one[name] for one in honest], axis=0) for name in group.tensors}
            chance = np.random.default_rng([seed, step.round, step.participants.index(partner)])
            lie = {
                name: value.astype(group.tensors[name].dtype)
                for name, value in self.lie(dict(group.tensors), mean, chance).items()
            }
            return dataclasses.replace(made, groups={"update": dataclasses.replace(group, tensors=lie)})

        return arrives


def flipped(shard: Shard, classes: int) -> Shard:
    """The shard with label l taken for classes - 1 - l in training."""
    return dataclasses.replace(shard, train=dataclasses.replace(shard.train, labels=classes - 1 - shard.train.labels))


def _sign_flip(own: Update, _: Update, __: np.random.Generator) -> Update:
    return {name: -5 * value for name, value in own.items()}


def _gaussian(own: Update, _: Update, chance: np.random.Generator) -> Update:
    return {name: chance.normal(0, 10, value.shape) for name, value in own.items()}


def _inner_product(_: Update, mean: Update, __: np.random.Generator) -> Update:
    """Xie et al. 2019, "Fall of Empires": against the direction of the honest mean, all the same."""
    return {name: -value for name, value in mean.items()}


ATTACKS: Final[Mapping[str, Attack]] = {
    "sign flip": Attack("sign flip: -5 times the own update", _sign_flip),
    "gaussian": Attack("gaussian: garbage of deviation 10 on each element", _gaussian),
    "inner product": Attack("inner product: minus the mean of the honest", _inner_product),
    "label flip": Attack("label flip: 9 - l for l in training", None),
}
