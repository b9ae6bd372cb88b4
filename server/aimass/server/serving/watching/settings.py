"""What the watcher waits for, what it tolerates, and what it does then: the section `[watch]` of serving's settings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from aimass.proto.values import Value

__all__ = [
    "DriftSettings",
    "HoldSettings",
    "Limits",
    "RegistrySettings",
    "RetrainSettings",
    "RolloutSettings",
    "Then",
    "WatchSettings",
]

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Then = Literal["tell", "retrain"]


class RegistrySettings(Value, frozen=True):
    """The registry is asked about every so many seconds, give or take the share `jitter`, so that many servers do not
    ask at once; while it is away, less and less often, down to `slowest_s`. At the start it is waited for `patience_s`
    before the version that is on this disk is taken."""

    every_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    slowest_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    patience_s: Seconds = 3.0


class RolloutSettings(Value, frozen=True):
    """How a version comes to all requests: by the shares `canary`, each for `canary_s` and `canary_requests`, or for
    `canary_longest_s` where fewer come. Then the former version stays loaded for `watch_s`.

    A version that does not take all that the one that serves takes, or answers in another form, is refused unless
    `other_form` allows it. One is good, and comes without a canary another time, once it has served for `watch_s` and
    answered `good_requests` without a fault. What is not fetched, loaded or tested in time is given up. A fault that
    may pass is tried again after `retry_s`, then after twice as long, `retries` times.
    """

    canary: tuple[Share, ...] = (0.05, 0.5)
    canary_s: Seconds = 30.0
    canary_requests: Annotated[int, msgspec.Meta(ge=0)] = 100
    canary_longest_s: Seconds = 600.0
    watch_s: Seconds = 300.0
    good_requests: Positive = 100
    fetch_s: Annotated[float, msgspec.Meta(gt=0)] = 3_600.0
    load_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    smoke_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    retry_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    retries: Annotated[int, msgspec.Meta(ge=0)] = 3
    other_form: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        if list(self.canary) != sorted(set(self.canary)):
            raise ValueError("the shares of `canary` must grow")


class Limits(Value, frozen=True):
    """What a version may do wrong: that share of its requests, or `worse` times what the former does, where that is
    more. It may take `slower` times as long as the former, and `slack_s` longer. Fewer than `least_errors` or, of how
    long they took, `least_requests` say nothing: what goes wrong comes in bunches.

    `alpha` is the chance that a version which keeps within all that is refused nevertheless, over its whole rollout.
    Of a settled version figures are of the last `window_s`, and `alpha` is of each window.
    """

    error_rate: Share = 0.01
    least_errors: Positive = 5
    worse: Annotated[float, msgspec.Meta(ge=1)] = 1.5
    slower: Annotated[float, msgspec.Meta(ge=1)] = 1.5
    slack_s: Seconds = 0.005
    least_requests: Positive = 50
    alpha: Annotated[float, msgspec.Meta(gt=0, le=0.1)] = 0.001
    window_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0


class HoldSettings(Value, frozen=True):
    """An alias that moves more than `moves` times within `within_s` is waited for until it has rested for `rest_s`."""

    moves: Positive = 3
    within_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    rest_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0


class DriftSettings(Value, frozen=True):
    """When live rows count as drifted: the larger of `index` (PSI) and of what chance reaches in one of 1 / `alpha`
    windows, or likewise of `distance` (KS). A window has `least_rows` and lasts `window_s`; so many `windows` in a row
    have to agree. `sample` rows a second are counted at most."""

    index: Annotated[float, msgspec.Meta(gt=0)] = 0.25
    distance: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    alpha: Annotated[float, msgspec.Meta(gt=0, le=0.1)] = 0.001
    least_rows: Positive = 300
    window_s: Seconds = 300.0
    windows: Positive = 2
    sample: Positive = 200
    then: Then = "tell"


class RetrainSettings(Value, frozen=True):
    """What is submitted where a model is stale or its rows drift: the plan in a file, as the member whose home it is.
    Off without a plan. For one version it is submitted once, however many servers see it."""

    plan: str = ""
    home: str = ""

    def __post_init__(self) -> None:
        if self.plan and not self.home:
            raise ValueError("`retrain.home` must say as whom the plan is submitted")


class WatchSettings(Value, frozen=True):
    """All of it. A version older than `stale_days` is stale; 0 is never. Each `examine_s` the smoke inputs are sent and
    the digest of what is in memory is asked for; 0 is never again after the start."""

    registry: RegistrySettings = RegistrySettings()
    rollout: RolloutSettings = RolloutSettings()
    limits: Limits = Limits()
    hold: HoldSettings = HoldSettings()
    drift: DriftSettings = DriftSettings()
    retrain: RetrainSettings = RetrainSettings()
    stale_days: Seconds = 0.0
    stale_then: Then = "tell"
    examine_s: Seconds = 300.0

    def __post_init__(self) -> None:
        if "retrain" in {self.stale_then, self.drift.then} and not self.retrain.plan:
            raise ValueError('`then` is "retrain", and `retrain.plan` must say what is submitted')
