"""What partners do in a training step, and what they send of it: by the driver that a plan names, for all sides.

plain: local steps, of which new minus old is sent (McMahan et al. 2017; FedProx where `proximal_mu` is set).
scaffold: local steps that control variates correct (Karimireddy et al. 2020), whose change is sent as well.
fednova: local steps, of which the mean one is sent, and how many there were (Wang et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from aimass.proto.compression import Compress, sent_groups
from aimass.proto.elements import FLOATS, update_shapes
from aimass.proto.plan_settings import PrivacySettings, SecureSettings, TrainSettings
from aimass.proto.tensors import Layout

__all__ = [
    "CONTROL",
    "OVERLAPPING",
    "STEPS",
    "UPDATE",
    "Method",
    "check_method",
    "control_shapes",
    "method_of",
    "planned_norm",
    "step_norm",
    "training_groups",
    "trains",
]

Method = Literal["plain", "scaffold", "fednova"]

UPDATE: Final = "update"
CONTROL: Final = "control"
STEPS: Final = "steps"
"""The groups of a training contribution. Numbers of `STEPS` are counts, which a secure sum must not clip."""

OVERLAPPING: Final = "fedbuff"
"""The driver whose steps overlap. Where sums are plain each is of one partner, and a model of the quorum's at least."""

_TRAINING: Final[Mapping[str, Method]] = {
    "averaging": "plain",
    OVERLAPPING: "plain",
    "fednova": "fednova",
    "scaffold": "scaffold",
}


def trains(driver: str) -> bool:
    """Whether stages of this driver have partners train a network."""
    return driver in _TRAINING


def method_of(drivers: Iterable[str]) -> Method:
    """The method of a plan with stages of these drivers; those that are not known train plainly or not at all."""
    named = {_TRAINING[driver] for driver in drivers if driver in _TRAINING} - {"plain"}
    return named.pop() if named else "plain"


def control_shapes(model: Layout, keep_local: Sequence[str] = ()) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Element type and shape by name of a control variate: each floating tensor of an update, in float32 or float64."""
    return {
        name: ("F64" if dtype == "F64" else "F32", shape)
        for name, (dtype, shape) in update_shapes(model, keep_local).items()
        if dtype in FLOATS
    }


def training_groups(
    method: Method, model: Layout, keep_local: Sequence[str] = (), compress: Compress | None = None
) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Groups, tensors, element types and shapes of a contribution to a training step on `model`.

    What matches `keep_local` stays at the partner, and is in none of them. With `compress` the update is as it is sent.
    """
    shapes = update_shapes(model, keep_local)
    update = {UPDATE: shapes} if compress is None else sent_groups(compress, UPDATE, shapes)
    match method:
        case "scaffold":
            return {**update, CONTROL: control_shapes(model, keep_local)}
        case "fednova":
            return {**update, STEPS: {"norm": ("F64", ())}}
        case _:
            return update


def step_norm(train: TrainSettings, steps: int) -> float:
    """How many plain steps `steps` local ones come to: ||a||_1, where the way gone is -eta_l sum_k a_k g_k.

    Wang et al. 2020, section 4.1: a_k = 1 for plain steps, (1 - rho^(steps - k)) / (1 - rho) with momentum rho, and
    (1 - eta_l mu)^(steps - 1 - k) with FedProx's mu, k from 0.
    """
    rho, pull = train.momentum, train.learning_rate * train.proximal_mu
    if rho:
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)
    return -math.expm1(steps * math.log1p(-pull)) / pull if pull else float(steps)


def planned_norm(train: TrainSettings) -> float:
    """The same of the plan's own steps: what FedNova's updates are scaled to. Of a plan of epochs, one step's."""
    return step_norm(train, train.steps or 1)


def check_method(
    drivers: Iterable[str], train: TrainSettings, privacy: PrivacySettings | None, secure: SecureSettings | None
) -> None:
    """Raise `ValueError` where a plan's numbers do not suit what its drivers ask of partners."""
    stages = [driver for driver in drivers if driver in _TRAINING]
    method = method_of(stages)
    if train.fewer_steps and method != "fednova":
        raise ValueError(
            '`train.fewer_steps` goes with `driver = "fednova"`: in another mean, who does fewer steps would count less'
        )
    if method == "plain":
        return
    if set(stages) != {method}:
        raise ValueError(f"`{method}` trains a plan alone: partners do one kind of local steps in all of its stages")
    _check_private(method, privacy, secure)
    if secure is not None and secure.rule != "mean":
        raise ValueError(
            f'`{method}` needs `secure.rule = "mean"`: others would judge each part of what it sends alone'
        )
    if train.optimizer != "sgd" or train.keep_optimizer:
        raise ValueError(f'`{method}` needs `train.optimizer = "sgd"`, not kept: its formulas are of such steps')
    if method == "scaffold":
        _check_scaffold(len(stages), train)
    else:
        _check_fednova(train)


def _check_private(method: Method, privacy: PrivacySettings | None, secure: SecureSettings | None) -> None:
    if privacy is not None:
        raise ValueError(f"`privacy` trains by DP-SGD, whose steps `{method}` does not change: take `averaging`")
    if secure is not None and secure.noise is not None:
        raise ValueError(
            f"`secure.noise` is made and accounted for an update alone, and `{method}` sends more: take `averaging`"
        )


def _check_scaffold(stages: int, train: TrainSettings) -> None:
    if stages > 1:
        raise ValueError("`scaffold` has one stage: control variates of one would be taken for those of the next")
    if train.weight != "one":
        raise ValueError('`scaffold` needs `train.weight = "one"`: the server\'s control variate is a mean of partners')
    if train.momentum or train.proximal_mu:
        raise ValueError("`scaffold` goes without `momentum` and `proximal_mu`: it reads gradients off the way gone")


def _check_fednova(train: TrainSettings) -> None:
    if train.momentum and train.proximal_mu:
        raise ValueError("`fednova` goes with `momentum` or with `proximal_mu`: for both there is no formula")
    if train.gradient_clip is not None and train.proximal_mu:
        raise ValueError("`fednova` with `proximal_mu` goes without `gradient_clip`, which would clip its pull as well")
    if train.learning_rate * train.proximal_mu >= 1:
        raise ValueError("`fednova` needs `learning_rate` times `proximal_mu` below 1: steps would swing")
