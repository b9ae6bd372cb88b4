"""What explanations cost: exact Shapley values beside shap's, the model's use over 10,000 rows, 100 images, memory, and
what they say of the demo's heart model beside a logistic regression."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shap

from aimass.explain import Rows, gap, prim, segviz
from aimass.explain.gap.importance import Importance, importance
from aimass.explain.images import Images, image_model_of_function
from aimass.explain.lpi.sampling import sampled_shapley
from aimass.explain.lpi.shapley import exact_shapley
from aimass.explain.models import asked
from aimass.explain.report.model_report import model_report
from aimass.explain.words import interval, number
from aimass.explain.work import Work
from scripts.benches import explain_coverage
from scripts.benches.explain_heart import heart_stage
from scripts.benches.row import Row

__all__ = ["many_rows", "measure"]

Floats = npt.NDArray[np.float64]
_BACKGROUND: Final = 100
_ROWS: Final = 10_000
_IMAGES: Final = 100
_SIDE: Final = 128
_ERROR: Final = 1e-3
"""Root mean square at which sampled values are compared: a tenth of a point of probability."""
_SAME: Final = 1e-6


def measure(*, quick: bool = False, full: bool = False) -> list[Row]:
    """All figures; `full` with how often the intervals hold the truth in 1,000 simulations."""
    repeats = 3 if quick else 7
    rows = [*_exact(repeats), *_sampled(3 if quick else 10), *_global(repeats), _memory(), _segmentation(repeats)]
    rows += [_agreement(), _report()]
    return rows + (explain_coverage.measure(quick=quick) if full else [])


def _timed(do: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each repetition, after one that warms."""
    do()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        do()
        found.append(time.perf_counter() - began)
    return found


def _exact(repeats: int) -> list[Row]:
    """One row of 13 features over 100 background rows, which shap's exact explainer has to agree with."""
    row, background, predict = _asking()
    ours = exact_shapley(predict, row, background)
    peer = shap.explainers.Exact(lambda x: predict(x)[:, 1], shap.maskers.Independent(background, _BACKGROUND))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer(row, silent=True).values
        seconds = _timed(lambda: peer(row, silent=True), max(1, repeats // 3))
    apart = float(np.abs(ours.values[:, :, 1] - theirs).max())
    found = Row.of(
        "exact Shapley, 13 features, 100 references", _timed(lambda: exact_shapley(predict, row, background), repeats),
        "s", 0.5, "lower",
    )  # fmt: skip
    return [
        _with_peer(found, float(np.median(seconds))),
        Row.of("largest difference from shap's exact values", [apart], "prob", _SAME, "lower"),
    ]


def _asking() -> tuple[Floats, Floats, Callable[[Floats], Floats]]:
    """A held-out row without a missing cell, references, and how the model is asked."""
    stage, work = heart_stage(), Work()
    whole = np.flatnonzero(~np.isnan(stage.held_out.values).any(axis=1))[0]
    drawn = work.rng("bench").choice(len(stage.train), _BACKGROUND, replace=False)
    return stage.held_out.values[whole : whole + 1], stage.train.values[drawn], asked(stage.model, work)


def _sampled(seeds: int) -> list[Row]:
    """Sampled values against shap's permutation explainer: seconds to the same error, by the square root law."""
    row, background, predict = _asking()
    truth = exact_shapley(predict, row, background).values[0, :, 1]

    def ours(seed: int) -> Floats:
        return sampled_shapley(predict, row, background, pairs=200, work=Work(seed=seed)).values[0, :, 1]

    def theirs(seed: int) -> Floats:
        peer = shap.explainers.Permutation(
            lambda x: predict(x)[:, 1], shap.maskers.Independent(background, _BACKGROUND), seed=seed
        )
        found: Floats = peer(row, max_evals=10 * (2 * row.shape[1] + 1), silent=True).values[0]
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, other = (_to_error(sample, truth, seeds) for sample in (ours, theirs))
    return [_with_peer(Row.of("sampled Shapley to an error of 0.1 points", [mine], "s", None, "lower"), other)]


def _to_error(sample: Callable[[int], Floats], truth: Floats, seeds: int) -> float:
    """Seconds that it would take to the error, from seconds and error as they are."""
    sample(0)
    began = time.perf_counter()
    errors = [sample(seed) - truth for seed in range(seeds)]
    seconds = (time.perf_counter() - began) / seeds
    return seconds * float(np.mean(np.square(errors))) / _ERROR**2


def _with_peer(row: Row, peer: float) -> Row:
    return Row(row.metric, row.value, row.unit, row.range, peer, row.target, row.better)


def many_rows(rows: int = _ROWS) -> Rows:
    """Held-out rows drawn again and again, their numbers each moved a little, so that none is there twice."""
    stage, rng = heart_stage(), Work().rng("bench", "many")
    found = stage.held_out.take(rng.integers(len(stage.held_out), size=rows))
    for place, feature in enumerate(found.features):
        if feature.kind == "number":
            found.values[:, place] += rng.uniform(-0.01, 0.01, rows) * np.nanstd(found.values[:, place])
    return found


def _global(repeats: int) -> list[Row]:
    rows, model, times = many_rows(), heart_stage().model, max(1, repeats // 3)
    whole, alone = (
        _timed(ask, times) for ask in (lambda: gap.explain(model, rows), lambda: importance(model, rows, Work()))
    )
    return [
        Row.of("what the model uses (gap), 10,000 rows", whole, "s", 10, "lower"),
        Row.of("permutation importance alone, 10,000 rows", alone, "s", None, "lower"),
    ]


def _memory() -> Row:
    """What `gap` adds to a process that holds model and rows; its bound is 256 MiB of arrays underway."""
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=True)
    return Row.of("memory of gap beside model and rows, 10,000 rows", [float(done.stdout)], "MB", None, "lower")


def _grown() -> float:
    """MB of the peak above what was held before; the peak is Linux's, begun anew."""
    rows, model = many_rows(), heart_stage().model
    model.predict(rows.values[:1_000])
    gap.explain(model, rows.take(slice(0, 500)))  # so that what is loaded late is there
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_mb()
    gap.explain(model, rows)
    return _peak_mb() - before


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1e3


def _segmentation(repeats: int) -> Row:
    """100 images of 128 x 128 with discs, which a model finds a pixel aside."""
    images = _discs()
    model = image_model_of_function(_aside, images.classes, segments=True, shape=(_SIDE, _SIDE))
    seconds = _timed(lambda: segviz.explain_images(model, images), max(1, repeats // 3))
    return Row.of("where a segmentation is wrong, 100 images of 128 x 128", seconds, "s", None, "lower")


def _discs() -> Images:
    rng, (y, x) = np.random.default_rng(1), np.indices((_SIDE, _SIDE))
    masks = np.zeros((_IMAGES, _SIDE, _SIDE), np.uint8)
    for mask in masks:
        for _ in range(8):
            centre, radius = rng.integers(10, _SIDE - 10, 2), rng.integers(4, 10)
            mask[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = 1
    return Images(masks * 200, ("background", "disc"), masks=masks, name="discs", held_out=True)


def _aside(pixels: npt.NDArray[np.uint8]) -> Floats:
    chance = 0.1 + 0.8 * (np.roll(pixels, 1, axis=2) > 100)
    return np.stack([1 - chance, chance], axis=1)


def _agreement() -> Row:
    """Ranks of the features in the federated network beside those in a logistic regression, told as a table."""
    stage = heart_stage()
    network, regression = (importance(model, stage.held_out, Work()) for model in (stage.model, stage.regression))
    _tell(network, regression)
    slices = segviz.explain(stage.model, stage.held_out).slices
    boxes = prim.explain(stage.model, stage.held_out, prim.PrimOptions(target="error", loss="error_rate")).boxes
    for says in (*slices.describe(), *boxes.describe()):
        sys.stderr.write(f"  {says}\n")
    one, other = (np.argsort(np.argsort(-found.value[: found.single])) for found in (network, regression))
    alike = float(np.corrcoef(one, other)[0, 1])
    return Row.of("heart: rank correlation with a logistic regression", [alike], "rho", None, "higher")


def _tell(network: Importance, regression: Importance) -> None:
    """Rise of the held-out log loss when a feature is shuffled, 95 % interval, and the ranks that it may have."""
    sys.stderr.write(f"  {'feature':<10}{'network':>30}{'rank':>9}{'logistic regression':>30}{'rank':>9}\n")
    for place in network.order():
        cells = "".join(
            f"{number(found.value[place])} ({interval(found.low[place], found.high[place])})".rjust(30)
            + f"{found.best[place]}-{found.worst[place]}".rjust(9)
            for found in (network, regression)
        )
        sys.stderr.write(f"  {network.names[place]:<10}{cells}\n")


def _report() -> Row:
    from aimass.explain.questions import QUESTIONS, Asking

    stage = heart_stage()
    tables = [one for one in QUESTIONS if one.of == "rows"]
    answers = {one.name: Asking(one, stage.model, stage.held_out, one.options()).answer(Work()) for one in tables}
    return Row.of("report of the heart model", [len(model_report("heart", answers)) / 1e3], "kB", None, "lower")


if __name__ == "__main__":
    sys.stdout.write(str(_grown()))
