"""Masks over a federation: the figures of all pixels, and an interval that images, not pixels, are drawn for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from aimass.explain.federated import masks
from aimass.explain.federated.mask_scores import FederatedMasks, masks_of
from aimass.explain.federated.sums import Release, added
from aimass.explain.images import UNLABELLED, Images
from aimass.explain.lineage import Lineage
from aimass.explain.segviz.overlap import OVERLAP
from aimass.proto.analysis import AtPartner
from aimass.proto.asks import Ask
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.rows import Batch
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from tests.explain.federated.hospitals import TASK
from tests.explain.federated.together import largest_rows, together
from tests.explain.segviz.discs import MODEL, images

NUCLEI = load(locate("nuclei"))
BLOB = Blob(first_model(NUCLEI, 3))
QUESTION = Ask(schema=NUCLEI.schema, options={"threshold": 0.4}, seed=1)
SIZE = 56 * 56


def owner(count: int, seed: int) -> AtPartner:
    """Tiles with masks of which some pixels nobody labelled."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 56, 56)).astype(np.uint8)
    drawn = np.where(rng.random(pixels.shape) < 0.02, UNLABELLED, pixels > 140).astype(np.uint8)
    none = np.empty((count, 0))
    return AtPartner.of(NUCLEI, BLOB, Batch(none.astype(np.float32), none.astype(np.int64), pixels, drawn))


def told(found: dict[str, npt.NDArray[np.float64]], threshold: float = 0.5) -> FederatedMasks:
    size = images(1).height * images(1).width
    return masks_of(found, MODEL.classes, 1, threshold, size, Lineage(model="m"), Release(partners=2))


def test_owners_sums_are_the_pooled_ones_and_no_image_adds_more_than_is_stated() -> None:
    owners = [owner(count, seed) for seed, count in enumerate((5, 9, 2))]
    rows = [one.rows for one in owners]
    numbers, categories, labels = (
        np.concatenate([getattr(one, name) for one in rows]) for name in ("numbers", "categories", "labels")
    )
    pixels = np.concatenate([one.images for one in rows if one.images is not None])
    whole = AtPartner.of(NUCLEI, BLOB, Batch(numbers, categories, pixels, labels))
    apart, pooled = together(masks.analysis, QUESTION, owners), together(masks.analysis, QUESTION, [whole])
    for name, sums in pooled[0].sums.items():
        np.testing.assert_allclose(apart[0].sums[name], sums, rtol=0, atol=1e-9)
    assert np.rint(apart[0].sums["pixels"] * SIZE).sum() == (np.concatenate([r.labels for r in rows]) != 255).sum()
    for cells, most in largest_rows(masks.analysis, QUESTION, apart, [owner(1, seed) for seed in range(3)]):
        assert most <= cells.norm * (1 + 1e-12)


def test_figures_are_scikit_learns_of_all_pixels() -> None:
    data = images(6)
    parts = [masks.partial(MODEL, data.take(part), 1, 0.5) for part in (slice(4), slice(4, 6))]
    found = told(dict(added(parts)))
    assert data.masks is not None
    true, said = data.masks.ravel(), (MODEL.predict(data.pixels)[:, 1] >= 0.5).ravel()
    figures = dict(zip(OVERLAP, found.figures[1].tolist(), strict=True))
    for name, oracle in (
        ("iou", jaccard_score),
        ("dice", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        assert figures[name] == pytest.approx(oracle(true, said))
    at = int(np.flatnonzero(np.isclose(found.at, 0.7))[0])
    cut = (MODEL.predict(data.pixels)[:, 1] >= 0.7).ravel()
    assert found.moved[at].tolist() == [
        (cut & (true == 1)).sum(),
        (cut & (true == 0)).sum(),
        (~cut & (true == 1)).sum(),
    ]


def test_the_interval_is_the_jackknifes_to_first_order() -> None:
    data = images(40)
    found = told(dict(masks.partial(MODEL, data, 1, 0.5)))
    each = [told(dict(masks.partial(MODEL, data.take(slice(k, k + 1)), 1, 0.5))).pixels[1] for k in range(40)]
    both, alone, missed = (np.array(each).T[place] for place in range(3))
    twice, whole = 2 * both, 2 * both + alone + missed
    without = (twice.sum() - twice) / (whole.sum() - whole)
    error = np.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    assert (found.high[1] - found.low[1]) / 2 == pytest.approx(2.023 * error, rel=0.05)


def test_one_image_has_no_interval_and_an_empty_class_agrees() -> None:
    data = images(1)
    blank = Images(data.pixels, data.classes, None, np.zeros_like(data.pixels))
    found = told(dict(masks.partial(MODEL, data, 1, 0.5)))
    assert np.isnan(found.low).all()
    nothing = told(dict(masks.partial(MODEL, blank, 1, 1.0)), 1.0)
    assert nothing.pixels[1, 0] == 0
    assert FederatedMasks.from_json(found.to_json()) == found
    assert found.to_chart().to_dict()


def test_other_data_is_refused() -> None:
    with pytest.raises(BadInput, match="takes no image"):
        masks.analysis.check(Ask(schema=TASK.schema))
    with pytest.raises(BadInput, match="no masks"):
        masks.analysis.check(Ask(schema=load(locate("mnist")).schema))
    with pytest.raises(NotFound, match="no such class"):
        masks.analysis.check(Ask(schema=NUCLEI.schema, options={"output": "moon"}))
