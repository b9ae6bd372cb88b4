"""Accuracy against epsilon: heart disease at its four hospitals (AUC), MNIST at one partner (accuracy), three seeds,
trained as a plan says and measured on held-out public rows without noise. What was trained is kept, so a run that was
broken off goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import msgspec

mpl.use("Agg")
import matplotlib.pyplot as plt

from aimass.client.data_get import cache_folder, get
from aimass.client.plan_check import case_of
from aimass.client.plan_options import calibrated
from aimass.client.shards import Shard, open_shard
from aimass.privacy.dp.events import Budget, Terms, Unit
from aimass.privacy.dp.private_terms import trained_elements
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import PlanDraft, PrivacySettings, Stage, TrainSettings
from aimass.proto.task import Task, first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.server.trial import tried, without_noise
from scripts.benches.mnist import mnist_shard
from scripts.benches.row import Row

__all__ = ["Curve", "curve", "draw"]

_SEEDS: Final = (1, 2, 3)
_KEPT: Final = Path("bench-output") / "dp-curve.json"
_PICTURE: Final = Path("docs") / "dp-curve.png"
_HOSPITALS: Final = ("cleveland", "hungarian", "long-beach", "switzerland")
_COLOUR: Final = "#1f6f6b"


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """One data set's: a plan without its noise yet, the epsilons, and what is measured. Without privacy it trains as
    `bare` says, where a rate that fits clipped gradients is too high for others."""

    title: str
    metric: str
    draft: PlanDraft
    epsilons: tuple[float, ...]
    shards: Callable[[], Sequence[Shard]]
    bare: TrainSettings | None = None

    def plan(self, task: Task, epsilon: float | None) -> PlanDraft:
        """The plan with the least noise that keeps epsilon, or without privacy."""
        privacy = self.draft.privacy
        if epsilon is None or privacy is None:
            return without_noise(self.bared)
        elements = trained_elements(Blob(first_model(task, 1)).layout)
        budget = Budget(terms=Terms.usual(Unit(privacy.unit), privacy.delta), epsilon=epsilon)
        return calibrated(case_of(self.draft, elements), budget)

    @property
    def bared(self) -> PlanDraft:
        """What is trained without privacy, still with it."""
        return msgspec.structs.replace(self.draft, train=self.bare or self.draft.train)


def _draft(name: str, rounds: int, train: TrainSettings, privacy: PrivacySettings) -> PlanDraft:
    return PlanDraft(
        name=name, task=name, data_schema=f"{name}/1", seed=1, train=train, privacy=privacy,
        stages=(Stage(driver="averaging", options={"rounds": rounds}),),
    )  # fmt: skip


HEART: Final = Curve(
    "heart disease, four hospitals", "auc",
    _draft(
        "heart", 20, TrainSettings(batch_size=256, learning_rate=0.3, steps=5, weight="one"),
        PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-3, divisor=32.0),
    ),
    (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0), lambda: [_hospital(name) for name in _HOSPITALS],
)  # fmt: skip
MNIST: Final = Curve(
    "MNIST, 12,000 rows, one epoch", "accuracy",
    _draft(
        "mnist", 1, TrainSettings(batch_size=128, learning_rate=1.0, steps=100, weight="one"),
        PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.01, delta=1e-5, divisor=120.0),
    ),
    (0.5, 1.0, 2.0, 4.0, 8.0), lambda: [mnist_shard(12_000)],
    TrainSettings(batch_size=128, learning_rate=0.05, momentum=0.9, steps=100, weight="one"),
)  # fmt: skip


def _hospital(name: str) -> Shard:
    task = load(locate("heart"))
    path = get("heart", cache_folder())[0] / f"{name}.parquet"
    manifest = ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant=name,
        salt=hashlib.sha256(name.encode()).hexdigest(), held_out=0.3,
    )  # fmt: skip
    with path.open("rb") as file:
        return open_shard(task.schema, manifest, [file])[0]


def curve(names: Sequence[str] = ("heart", "mnist"), seeds: Sequence[int] = _SEEDS) -> list[Row]:
    """Every point that is not kept yet, the picture, and a row for each epsilon."""
    curves = [each for each in (HEART, MNIST) if each.draft.name in names]
    kept = _kept()
    for each in curves:
        _trained(each, seeds, kept)
    found = {each.title: _points(each, seeds, kept) for each in curves}
    draw(curves, found, _PICTURE)
    sys.stderr.write(f"picture: {_PICTURE}\n")
    return [
        Row.of(f"{each.title}: {_told(epsilon)}", values, each.metric, None, "higher")
        for each in curves
        for epsilon, values in found[each.title].items()
    ]


def _told(epsilon: float | None) -> str:
    return "no privacy" if epsilon is None else f"epsilon {epsilon:g}"


def _key(each: Curve, epsilon: float | None, seed: int) -> str:
    """A point is of its settings: others are another point."""
    plan = each.draft if epsilon is not None else each.bared
    settings = hashlib.sha256(msgspec.json.encode(plan)).hexdigest()[:12]
    return f"{each.draft.name} {settings} {_told(epsilon)} seed {seed}"


def _kept() -> dict[str, float]:
    return json.loads(_KEPT.read_text()) if _KEPT.is_file() else {}


def _trained(each: Curve, seeds: Sequence[int], kept: dict[str, float]) -> None:
    asked = [(epsilon, seed) for seed in seeds for epsilon in (None, *each.epsilons)]
    missing = [(epsilon, seed) for epsilon, seed in asked if _key(each, epsilon, seed) not in kept]
    if not missing:
        return
    task, shards = load(locate(each.draft.name)), each.shards()
    plans = {epsilon: each.plan(task, epsilon) for epsilon, _ in missing}
    for place, (epsilon, seed) in enumerate(missing, 1):
        began = time.monotonic()
        value = tried(plans[epsilon], task, shards, seed)[each.metric]
        kept[_key(each, epsilon, seed)] = value
        _KEPT.parent.mkdir(exist_ok=True)
        _KEPT.write_text(json.dumps(kept, indent=1))
        taken = time.monotonic() - began
        left = taken * (len(missing) - place) / 60
        sys.stderr.write(
            f"dp: {each.title}, {_told(epsilon)}, seed {seed}: {each.metric} {value:.4f} after {taken:.0f} s; "
            f"{place} of {len(missing)}, about {left:.0f} minutes left\n"
        )


def _points(each: Curve, seeds: Sequence[int], kept: Mapping[str, float]) -> dict[float | None, list[float]]:
    return {epsilon: [kept[_key(each, epsilon, seed)] for seed in seeds] for epsilon in (None, *each.epsilons)}


def draw(curves: Sequence[Curve], found: Mapping[str, Mapping[float | None, Sequence[float]]], path: Path) -> None:
    """One panel a data set: each seed a point, their mean a line, no privacy a band."""
    figure, axes = plt.subplots(1, len(curves), figsize=(5.2 * len(curves), 3.8), layout="constrained", squeeze=False)
    for place, each in zip(axes[0], curves, strict=True):
        values = found[each.title]
        bare = values[None]
        place.axhspan(min(bare), max(bare), color="#8a8f98", alpha=0.35, label="no privacy")
        place.plot(each.epsilons, [statistics.fmean(values[one]) for one in each.epsilons], color=_COLOUR, label="mean")
        for one in each.epsilons:
            place.plot([one] * len(values[one]), values[one], "o", color=_COLOUR, markersize=4, alpha=0.6)
        privacy = each.draft.privacy
        delta = "" if privacy is None else f" at delta {privacy.delta:g}, one example, add or remove one"
        place.set(title=each.title, xlabel=f"epsilon{delta}", ylabel=each.metric, xscale="log")
        place.set_xticks(each.epsilons, [f"{one:g}" for one in each.epsilons], minor=False)
        place.set_xticks([], minor=True)
        place.legend(frameon=False)
        place.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
