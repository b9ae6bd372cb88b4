"""Where a segmentation is wrong: every view agrees with plain computations over all pixels at once."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from aimass.explain.charts.picture import Line, Points
from aimass.explain.images import Images, image_model_of_function
from aimass.explain.segviz import MaskOptions, MasksResult, explain_images
from aimass.explain.segviz.assessed import FIGURES
from aimass.explain.segviz.gallery import CELLS, overlay
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound, Stopped
from tests.explain.segviz.discs import MODEL, SIDE, images

DATA = images(6)
SAID = MODEL.predict(DATA.pixels)
assert DATA.masks is not None
MASKS = DATA.masks


@pytest.fixture(scope="module")
def result() -> MasksResult:
    return explain_images(MODEL, DATA)


def test_every_image_has_scikit_learns_figures(result: MasksResult) -> None:
    predicted = SAID[:, 1] >= 0.5
    for image in range(len(DATA)):
        true, said = MASKS[image].ravel(), predicted[image].ravel()
        found = dict(zip(FIGURES, result.masks.each[image, 1].tolist(), strict=True))
        assert found["iou"] == pytest.approx(jaccard_score(true, said))
        assert found["dice"] == pytest.approx(f1_score(true, said))
        assert found["precision"] == pytest.approx(precision_score(true, said))
        assert found["recall"] == pytest.approx(recall_score(true, said))
        assert found["area_error"] == pytest.approx(said.sum() / true.sum() - 1)
    np.testing.assert_allclose(result.masks.mean, result.masks.each.mean(axis=0))
    true_positive = int((predicted & (MASKS == 1)).sum())
    assert result.masks.pixels[1].tolist() == [
        true_positive, int(predicted.sum()) - true_positive, int(MASKS.sum()) - true_positive,
    ]  # fmt: skip


def test_hausdorffs_distance_is_scipys(result: MasksResult) -> None:
    cross = ndimage.generate_binary_structure(2, 1)
    for image in range(len(DATA)):
        said, true = SAID[image, 1] >= 0.5, MASKS[image] == 1
        one, other = (mask & ~ndimage.binary_erosion(mask, cross) for mask in (said, true))
        there = ndimage.distance_transform_edt(~other)[one]
        back = ndimage.distance_transform_edt(~one)[other]
        wanted = max(np.percentile(there, 95), np.percentile(back, 95))
        assert result.masks.each[image, 1, FIGURES.index("hausdorff_95")] == pytest.approx(wanted)
        precision, recall = (there <= 2).mean(), (back <= 2).mean()
        f1 = 2 * precision * recall / (precision + recall)
        assert result.masks.each[image, 1, FIGURES.index("boundary_f1")] == pytest.approx(f1)


def test_every_threshold_counts_what_a_mask_cut_there_would(result: MasksResult) -> None:
    swept = result.thresholds
    for place in (0, 10, 50, 73, 99):
        said, true = SAID[:, 1] >= swept.at[place], MASKS == 1
        wanted = [int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum())]
        assert swept.pixels[place].tolist() == wanted
        assert swept.dice[place] == pytest.approx(f1_score(true.ravel(), said.ravel()))
    assert (swept.low <= swept.dice).all()
    assert (swept.dice <= swept.high).all()


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    # with as many pixels predicted as true in each image Dice is a mean over images
    said = np.zeros((5, 2, 4, 4))
    masks = np.zeros((5, 4, 4), np.uint8)
    hits = [4, 1, 3, 2, 0]
    for image, hit in enumerate(hits):
        masks[image, 0] = 1
        said[image, 1, 0, :hit] = 1
        said[image, 1, 1, : 4 - hit] = 1
    said[:, 0] = 1 - said[:, 1]
    data = Images(np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8), ("a", "b"), masks=masks)
    model = image_model_of_function(lambda pixels: said[pixels[:, 0, 0]], ("a", "b"), segments=True)
    swept = explain_images(model, data, MaskOptions(things=False)).thresholds
    shares = np.array(hits) / 4
    half = 2.776445 * shares.std(ddof=1) / math.sqrt(5)
    assert swept.dice[50] == pytest.approx(shares.mean())
    assert (swept.low[50], swept.high[50]) == pytest.approx((shares.mean() - half, shares.mean() + half), abs=1e-4)


def test_the_gallery_shows_the_worst_first_and_each_pixel_as_it_was(result: MasksResult) -> None:
    shown, dice = result.gallery, result.masks.each[:, 1, FIGURES.index("dice")]
    assert shown.places.tolist() == np.argsort(dice, kind="stable").tolist()
    for place, image in enumerate(shown.places):
        said, true = SAID[image, 1] >= 0.5, MASKS[image] == 1
        for cell, inside in zip(CELLS, (~said & ~true, said & true, said & ~true, ~said & true), strict=True):
            np.testing.assert_array_equal(shown.cells[place] == CELLS.index(cell), inside)
        np.testing.assert_array_equal(shown.pixels[place], DATA.pixels[image])
    assert shown.chance(0, 5, 7) == pytest.approx(SAID[shown.places[0], 1, 5, 7], abs=1 / 510)
    with pytest.raises(BadInput, match="no such pixel"):
        shown.chance(0, SIDE, 0)


def test_right_and_wrong_pixels_have_their_own_colours_over_the_image() -> None:
    pixels, cells = np.full((2, 2), 100, np.uint8), np.array([[0, 1], [2, 3]], np.uint8)
    found = overlay(pixels, cells)
    assert found[0, 0].tolist() == [100, 100, 100]
    assert len({tuple(colour) for colour in found.reshape(4, 3).tolist()}) == 4
    np.testing.assert_array_equal(overlay(np.full((2, 2, 3), 100, np.uint8), cells), found)


def test_things_are_found_and_those_of_a_perfect_model_all(result: MasksResult) -> None:
    assert result.things is not None
    assert DATA.instances is not None
    assert len(result.things.image) == sum(np.unique(one).size - 1 for one in DATA.instances)
    assert result.things.found == int((result.things.iou > 0.5).sum())
    apart = images(3, discs=1)
    assert apart.masks is not None
    perfect = image_model_of_function(
        lambda pixels: np.eye(2)[apart.masks[pixels[:, 0, 0] - 7]].transpose(0, 3, 1, 2),  # type: ignore[index]
        ("ground", "disc"),
        segments=True,
    )
    marked = apart.pixels.copy()
    marked[:, 0, 0] = np.arange(3) + 7
    found = explain_images(perfect, dataclasses.replace(apart, pixels=marked)).things
    assert found is not None
    assert (found.found, found.predicted, found.panoptic_quality) == (3, 3, 1.0)
    np.testing.assert_allclose(found.values, np.tile([1, 1, 1, 1, 0, 1, 0], (3, 1)))


def test_a_thing_by_hand() -> None:
    mask = np.zeros((1, 6, 8), np.uint8)
    mask[0, 1:3, 1:4] = 1
    mask[0, 4:6, 6:8] = 1
    said = np.zeros((1, 6, 8))
    said[0, 1:3, 2:5] = 0.9
    data = Images(np.zeros((1, 6, 8), np.uint8), ("a", "b"), masks=mask)
    model = image_model_of_function(lambda pixels: said, ("a", "b"), segments=True)
    found = explain_images(model, data).things
    assert found is not None
    assert found.pixels.tolist() == [6, 4]
    assert (found.row.tolist(), found.column.tolist()) == ([1.5, 4.5], [2.0, 6.5])
    by_name = dict(zip(FIGURES, found.values.T.tolist(), strict=True))
    assert by_name["iou"] == [0.5, 0.0]
    assert by_name["hausdorff_95"] == pytest.approx([1.0, math.hypot(2, 2)])
    assert (found.predicted, found.found) == (1, 0)
    assert "connected parts" in found.caveats[0]


def test_unlabelled_pixels_count_for_nothing() -> None:
    masks = MASKS.copy()
    masks[:, :, SIDE // 2 :] = 255
    half = explain_images(MODEL, dataclasses.replace(DATA, masks=masks, instances=None), MaskOptions(things=False))
    assert half.masks.pixels.sum(axis=1)[1] <= DATA.masks.size  # type: ignore[union-attr]
    said, true = SAID[:, 1, :, : SIDE // 2] >= 0.5, MASKS[:, :, : SIDE // 2] == 1
    assert half.masks.pixels[1].tolist() == [
        int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum()),
    ]  # fmt: skip
    assert (half.gallery.cells[:, :, SIDE // 2 :] == 255).all()


def test_images_without_a_class_do_not_make_its_figures_better() -> None:
    """A blank image beside each: masks agree that there is no disc, which says nothing of how discs are predicted."""
    blank = dataclasses.replace(DATA, pixels=np.zeros_like(DATA.pixels), masks=np.zeros_like(MASKS), instances=None)
    assert (MODEL.predict(blank.pixels)[:, 1] < 0.5).all()
    both = dataclasses.replace(
        DATA, pixels=np.concatenate([DATA.pixels, blank.pixels]), masks=np.concatenate([MASKS, MASKS * 0]),
        instances=None, beside={},
    )  # fmt: skip
    options = MaskOptions(things=False)
    alone, beside = (explain_images(MODEL, one, options).masks for one in (dataclasses.replace(DATA, beside={}), both))
    np.testing.assert_allclose(beside.mean[1], alone.mean[1])
    np.testing.assert_allclose(beside.low[1], alone.low[1])
    assert (beside.defined[1] == alone.defined[1]).all()
    assert "6 of 12 images that have any" in beside.describe()[1]
    none = explain_images(MODEL, blank, options).masks
    assert none.describe()[1] == "disc is in no image, predicted or true."
    assert np.isnan(none.mean[1]).all()


def test_an_interval_ends_where_a_figure_can() -> None:
    masks = explain_images(MODEL, DATA.take(slice(2)), MaskOptions(things=False)).masks
    known = ~np.isnan(masks.low)
    assert (masks.low[known] >= -1).all()
    distance = masks.low[:, FIGURES.index("hausdorff_95")]
    assert (distance[~np.isnan(distance)] >= 0).all()
    shares = masks.high[:, [FIGURES.index(name) for name in ("iou", "dice", "precision", "recall", "boundary_f1")]]
    assert (shares[~np.isnan(shares)] <= 1).all()


def test_slices_that_lack_break_the_line_and_keep_their_own_numbers() -> None:
    held = np.array([2, 3, 7, *range(10, 10 + len(DATA) - 3)])
    result = explain_images(MODEL, dataclasses.replace(DATA, volume=True, beside={"slice": held}))
    assert result.along is not None
    assert list(result.along.to_columns()["slice"]) == held.tolist()
    line, dots = result.along.picture().panels[0].layers[:2]
    assert isinstance(line, Line)
    assert isinstance(dots, Points)
    assert np.isnan(line.y[[2, 4]]).all()
    assert line.x[[0, 1, 3, 5]].tolist() == [2, 3, 7, 10]
    np.testing.assert_array_equal(dots.y, result.along.dice[:, 0])


def test_a_volume_is_told_along_its_slices_and_in_its_own_unit() -> None:
    volume = dataclasses.replace(DATA, volume=True, spacing=(3.0, 2.0, 2.0), unit="mm")
    result = explain_images(MODEL, volume)
    assert result.along is not None
    np.testing.assert_allclose(result.along.dice[:, 1], result.masks.each[:, 1, FIGURES.index("dice")])
    plain = explain_images(MODEL, DATA, MaskOptions(tolerance=1.0))
    edge = FIGURES.index("hausdorff_95")
    np.testing.assert_allclose(result.masks.each[:, :, edge], 2 * plain.masks.each[:, :, edge])
    np.testing.assert_allclose(result.masks.each[:, :, edge - 1], plain.masks.each[:, :, edge - 1])
    assert "mm" in result.masks.describe()[0]
    assert any("Slices of one body" in line for line in result.along.warnings())


def test_one_image_claims_no_generalisation() -> None:
    result = explain_images(MODEL, DATA.take(slice(2, 3)))
    assert any("says nothing of others" in line for line in result.masks.warnings())
    assert np.isnan(result.masks.low).all()
    assert np.isnan(result.thresholds.low).all()
    for view in result.views().values():
        view.to_svg()


def test_empty_masks_are_told_and_drawn() -> None:
    nothing = dataclasses.replace(DATA, masks=np.zeros_like(MASKS), instances=None)
    result = explain_images(MODEL, nothing)
    assert np.isnan(result.masks.mean[1, FIGURES.index("recall")])
    assert result.masks.defined[1, FIGURES.index("recall")] == 0
    assert result.things is not None
    assert result.things.describe()[0].startswith("There is no disc in these images")
    for view in result.views().values():
        view.to_svg()
    assert MasksResult.from_json(result.to_json()) == result


def test_three_classes_take_the_likeliest() -> None:
    masks = np.random.default_rng(0).integers(0, 3, (2, 8, 8)).astype(np.uint8)
    said = np.random.default_rng(1).dirichlet(np.ones(3), (2, 8, 8)).transpose(0, 3, 1, 2)
    data = Images(np.zeros((2, 8, 8), np.uint8), ("a", "b", "c"), masks=masks)
    model = image_model_of_function(lambda pixels: said[: len(pixels)], ("a", "b", "c"), segments=True)
    result = explain_images(model, data, MaskOptions(output="b", things=False))
    wanted = jaccard_score(masks.ravel(), said.argmax(axis=1).ravel(), average=None)
    both, extra, missed = result.masks.pixels.T
    np.testing.assert_allclose(both / (both + extra + missed), wanted)
    assert result.thresholds.output == "b"
    assert result.things is None


def test_chunks_and_workers_change_nothing_and_the_result_is_read_again(result: MasksResult) -> None:
    again = explain_images(MODEL, DATA, work=Work(memory_bytes=8 << 20, workers=2))
    assert again == result
    assert MasksResult.from_json(result.to_json()) == result
    for view in result.views().values():
        view.to_figure()
        assert len({len(column) for column in view.to_columns().values()}) == 1


def test_large_images_are_shown_thinned_and_that_is_said() -> None:
    side = 1100
    large = Images(np.zeros((1, side, side), np.uint8), ("a", "b"), masks=np.zeros((1, side, side), np.uint8))
    model = image_model_of_function(lambda pixels: np.zeros(pixels.shape), ("a", "b"), segments=True)
    shown = explain_images(model, large, MaskOptions(things=False)).gallery
    assert shown.stride == 3
    assert "every pixel in 3 is shown" in shown.caveats[0]


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    labels_images = image_model_of_function(lambda pixels: np.zeros((len(pixels), 2)), ("ground", "disc"))
    with pytest.raises(BadInput, match="labels images, not pixels"):
        explain_images(labels_images, DATA)
    with pytest.raises(NotFound, match="no such class"):
        explain_images(MODEL, DATA, MaskOptions(output="ring"))
    with pytest.raises(BadInput, match="no masks"):
        explain_images(MODEL, dataclasses.replace(DATA, masks=None))
    with pytest.raises(BadInput, match="other classes than the model"):
        explain_images(MODEL, dataclasses.replace(DATA, classes=("ground", "ring")))
    with pytest.raises(BadInput, match="another size"):
        explain_images(dataclasses.replace(MODEL, shape=(32, 32)), DATA)
    with pytest.raises(BadInput, match="no images"):
        explain_images(MODEL, DATA.take(slice(0, 0)))
    with pytest.raises(BadInput, match="what is no number"):
        explain_images(dataclasses.replace(MODEL, function=lambda p: np.full((len(p), 2, SIDE, SIDE), np.nan)), DATA)
    with pytest.raises(Stopped):
        explain_images(MODEL, DATA, work=Work(stopped=lambda: True))


def test_who_holds_what_is_hard_to_segment_is_named() -> None:
    owner = np.array(["a"] * 10 + ["b"] * 10)  # later images are noisier
    data = dataclasses.replace(images(20), beside={"owner": owner, "source": np.array(["one photograph"] * 20)})
    result = explain_images(MODEL, data, MaskOptions(things=False))
    assert result.holders is not None
    dice = result.masks.each[:, 1, FIGURES.index("dice")]
    assert result.holders.mean.tolist() == pytest.approx([dice[:10].mean(), dice[10:].mean()])
    half = 2.262157 * dice[10:].std(ddof=1) / math.sqrt(10)
    assert result.holders.low[1] == pytest.approx(dice[10:].mean() - half, rel=1e-4)
    assert result.holders.p[1] <= 0.01
    assert result.holders.p[0] == 1
    assert "worst for b" in result.holders.describe()[0]
    assert "more than chance" in result.holders.describe()[0]
    assert "All 20 images are parts of one photograph" in result.masks.warnings()[0]
    assert "holders" in result.views()
    result.holders.to_svg()


def test_one_holder_is_not_told_apart_and_a_column_that_is_none_is_refused() -> None:
    alone = dataclasses.replace(DATA, beside={"partner": np.array(["a"] * len(DATA)), "ward": np.arange(len(DATA)) % 2})
    assert explain_images(MODEL, alone, MaskOptions(things=False)).holders is None
    named = explain_images(MODEL, alone, MaskOptions(things=False, beside="ward")).holders
    assert named is not None
    assert named.names == ("0", "1")
    with pytest.raises(NotFound, match="no such column"):
        explain_images(MODEL, alone, MaskOptions(beside="bed"))


def test_images_without_the_class_make_no_holder_look_better() -> None:
    owner = np.array(["a", "b"] * 3)
    whole = dataclasses.replace(DATA, beside={"owner": owner})
    empty = np.zeros((4, SIDE, SIDE), np.uint8)
    more = Images(
        np.concatenate([DATA.pixels, empty]), DATA.classes, None, np.concatenate([MASKS, empty]),
        beside={"owner": np.append(owner, ["a"] * 4)}, held_out=True,
    )  # fmt: skip
    options = MaskOptions(things=False)
    with_empty, without = explain_images(MODEL, more, options).holders, explain_images(MODEL, whole, options).holders
    assert with_empty is not None
    assert without is not None
    np.testing.assert_allclose(with_empty.mean, without.mean)
    assert with_empty.images.tolist() == [3, 3]
    nothing = dataclasses.replace(more.take(slice(6, 10)), beside={"owner": np.array(["a", "a", "b", "b"])})
    assert explain_images(MODEL, nothing, options).holders is None


def test_a_perfect_segmentation_finds_all_things_however_small_and_specks_are_none() -> None:
    masks = np.zeros((4, 40, 40), np.uint8)
    masks[:, 5:15, 5:15] = 1
    for down, right in ((2, 20), (2, 30), (30, 2), (30, 20)):
        masks[:, down : down + 2, right : right + 2] = 1
    model = image_model_of_function(lambda pixels: pixels / 255, ("around", "thing"), segments=True)
    for speck in (0, 255):
        pixels = 255 * masks
        pixels[:, 20, 20] = speck
        found = explain_images(model, Images(pixels, ("around", "thing"), masks=masks)).things
        assert found is not None
        assert (len(found.image), found.predicted, found.found, found.panoptic_quality) == (20, 20, 20, 1.0)
