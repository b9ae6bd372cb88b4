"""Searches for settings: whether a planted optimum is found, importances come in their order, the tied set holds the
best that was tried, and what cutting poor runs saves; then breast cancer through the simulator."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from aimass.explain.lineage import Lineage, software
from aimass.explain.runs.outcomes import Objective, Outcome, Outcomes, varied
from aimass.explain.runs.tied import tied_set
from aimass.explain.tune.sampler import Seen, suggested
from aimass.explain.tune.space import read_space
from aimass.explain.tune.surface import surface_importance
from aimass.explain.work import Work
from aimass.proto.values import Scalar
from scripts.benches import tumours
from scripts.benches.row import Row
from scripts.benches.tune_goals import areas
from scripts.benches.tune_tied import PATTERNS, holds_and_size

__all__ = ["SPACE", "measure", "planted", "simulated"]

SPACE: Final = """
metric = "auc"
[settings]
train.learning_rate = { low = 0.001, high = 1.0, log = true }
train.momentum = { low = 0.0, high = 0.95 }
train.batch_size = { low = 8, high = 128, log = true }
train.optimizer = { choices = ["sgd", "adam"] }
train.weight_decay = { low = 0.0, high = 0.1 }
"""
_ORDER: Final = ("train.learning_rate", "train.momentum", "train.batch_size")
_TRIALS, _SEEDS = 24, 3
_NOISE: Final = 0.01
_BEST: Final = 0.92
_COVERAGE: Final = 0.93


def planted(settings: Mapping[str, Scalar]) -> float:
    """A known quality: learning rate decides most, then momentum, then batch size; the others nothing.

    Too large a rate makes training collapse, so that the surface is no polynomial.
    """
    rate = (math.log10(float(settings["train.learning_rate"])) + 3) / 3
    momentum, batch = float(settings["train.momentum"]) / 0.95, math.log2(float(settings["train.batch_size"]) / 8) / 4
    collapse = 0.25 / (1 + math.exp(-40 * (rate - 0.9)))
    return _BEST - 0.9 * (rate - 0.6) ** 2 - 0.4 * (momentum - 0.4) ** 2 - 0.08 * (batch - 0.5) ** 2 - collapse


def simulated(seed: int, trials: int = _TRIALS, seeds: int = _SEEDS) -> dict[str, float]:
    """One search over planted runs with noise by seed: what it found, and what its statistics said."""
    space, random = read_space(SPACE), np.random.default_rng(seed)
    seen: list[Seen] = []
    runs: list[Outcome] = []
    for trial in range(trials):
        settings = suggested(space, seen, trials, seed)
        quality = [float(planted(settings) + _NOISE * random.standard_normal()) for _ in range(seeds)]
        seen.append(Seen(settings=settings, values=(float(np.mean(quality)),)))
        runs += [_outcome(f"{trial}-{place}", place, settings, value) for place, value in enumerate(quality)]
    found = Outcomes(Objective("auc", "higher"), tuple(runs), varied([run.settings for run in runs]))
    lineage = Lineage(model="planted", data="planted", software=software())
    tied = tied_set(found, lineage, Work(seed=seed))
    importance = surface_importance(found, space, lineage, Work(seed=seed), resamples=100)
    best = max(runs, key=lambda run: planted(run.settings))
    chosen = max(seen, key=lambda one: one.values[0])
    return {
        "regret": _BEST - planted(chosen.settings),
        "held": float(tied.tied[tied.settings.index(found.setting(best))]),
        "size": float(tied.tied.sum()),
        "first two": float(importance.settings[:2] == _ORDER[:2]),
        "all three": float(importance.settings[:3] == _ORDER),
        "sure": float(importance.p <= 0.05),
    }


def _outcome(name: str, seed: int, settings: dict[str, Scalar], quality: float) -> Outcome:
    return Outcome(
        run=name, name=name, seed=seed, settings=settings, quality=quality, epsilon=None, bytes=0, seconds=1.0
    )


def measure(*, quick: bool) -> list[Row]:
    """120 planted searches (`quick`: 40), and breast cancer with 15 settings of three seeds (`quick`: 8 of two)."""
    found = [simulated(seed) for seed in range(40 if quick else 120)]
    columns = {name: [one[name] for one in found] for name in found[0]}
    share = {name: float(np.mean(values)) for name, values in columns.items()}
    rows = [
        Row.of("distance of the chosen setting from the optimum", columns["regret"], "auc", 0.01, "lower"),
        _share("searches whose tied set holds the best tried", share["held"], _COVERAGE, len(found)),
        Row.of(f"size of the tied set of {_TRIALS}", [float(np.mean(columns["size"]))], "", None, "lower"),
        _share("the two settings that matter first, in order", share["first two"], 0.9, len(found)),
        _share("all three in order", share["all three"], None, len(found)),
        _share("importance told to be no chance", share["sure"], 0.9, len(found)),
    ]
    return [*rows, *_tied(quick=quick), *_goals(quick=quick), *_tumours(quick=quick)]


def _goals(*, quick: bool) -> list[Row]:
    """Two goals: the area under the front of settings tried, by TPE and by what could be in its place."""
    count = 10 if quick else 40
    space = read_space(SPACE.replace("[settings]", 'also = ["seconds"]\n[settings]'))
    found = [areas(space, planted, _TRIALS, seed) for seed in range(count)]
    rows = [
        Row.of(f"two goals: area of the front by {way}", [one[way] for one in found], "", None, "higher")
        for way in found[0]
    ]
    above = [float(np.mean([one["TPE"] > one[way] for one in found])) for way in ("spread", "NSGA-II")]
    return [
        *rows,
        _share("TPE above spread", above[0], None, count),
        _share("TPE above NSGA-II", above[1], None, count),
    ]


def _tied(*, quick: bool) -> list[Row]:
    """Whatever chance does: how often the set holds the best of settings that are all alike, the hardest case, and how
    large it is where settings fall behind; beside it the size by pairs that stand for themselves alone."""
    tries, sizes = (200, 40) if quick else (1_000, 200)
    rows: list[Row] = []
    for pattern in PATTERNS:
        held, _ = holds_and_size(pattern, tries, _TRIALS, _SEEDS, alike=True)
        rows.append(_share(f"{pattern}: tied sets that hold the best", held, _COVERAGE, tries))
        for shared, how in ((True, ""), (False, ", each pair for itself")):
            _, size = holds_and_size(pattern, sizes, _TRIALS, _SEEDS, alike=False, shared=shared)
            rows.append(Row.of(f"{pattern}: size of {_TRIALS}{how}", [size], "", None, "lower"))
    return rows


def _share(name: str, share: float, target: float | None, count: int) -> Row:
    """A share with its 95 % interval by the normal approximation."""
    half = 1.96 * math.sqrt(share * (1 - share) / count)
    return Row(name, share, "", (max(0.0, share - half), min(1.0, share + half)), None, target, "higher")


def _tumours(*, quick: bool) -> list[Row]:
    trials, seeds, rounds = (8, 2, 4) if quick else (15, 3, 8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = tumours.install(folder / "env")
        dealt = tumours.shards(python, folder / "shards")
        (folder / "plan.toml").write_text(tumours.PLAN.format(rounds=rounds))
        (folder / "space.toml").write_text(tumours.SPACE)
        command = [python, "-m", "aimass.proto.commands", "tune", "plan.toml", "--space", "space.toml"]
        more = ["--shards", str(dealt), "--out", "s", "--trials", str(trials), "--seeds", str(seeds), "--parallel", "2"]
        done = subprocess.run(
            [*command, *more, "--prune-after", "2", "--formats", "json", "--json"],
            cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout)
        answer = json.loads((folder / "s/answer/search.json").read_text())
    return _told_tumours(told, answer, rounds)


def _told_tumours(told: Mapping[str, Any], answer: Mapping[str, Any], rounds: int) -> list[Row]:
    search = told["search"]
    chosen = search["trials"][told["next"]]
    loss = [run["values"][-1] for run in chosen["runs"]]
    runs = [run for trial in search["trials"] for run in trial["runs"] if run["rounds"]]
    planned = len(search["trials"]) * len(search["setup"]["seeds"]) * rounds
    importance = answer["importance"]
    share = dict(zip(importance["settings"], importance["share"]["values"], strict=True))
    return [
        Row.of("breast cancer: held-out loss of the chosen setting", loss, "nat", 0.12, "lower"),
        Row.of("breast cancer: importance of the learning rate", [share["train.learning_rate"]], "", 0.7, "higher"),
        Row.of("breast cancer: of what changes nothing", [share["evaluate.batch_size"]], "", 0.1, "lower"),
        Row.of(
            "breast cancer: rounds run, of all planned",
            [sum(len(run["rounds"]) for run in runs) / planned],
            "",
            1.0,
            "lower",
        ),
        Row.of(
            "breast cancer: size of the tied set", [float(sum(answer["tied"]["tied"]["values"]))], "", None, "lower"
        ),
    ]
