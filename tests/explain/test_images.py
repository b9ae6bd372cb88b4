"""Images through the seam: what the task says, in any chunks; and what is no image, mask or probability is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimass.explain.images import (
    UNLABELLED,
    Images,
    asked_images,
    image_model_of_function,
    image_model_of_task,
    images_of_table,
    lineage_of_images,
    memory_of_image,
    network_of,
)
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.predictors import examples
from aimass.proto.rows import Table
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob

FASHION = load(locate("fashion"))
PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
KINDS = ("ground", "thing")


def fashion(count: int) -> Images:
    pixels = examples(FASHION.schema, count).images
    assert pixels is not None
    columns = {"image": pixels, "label": np.arange(count) % 10}
    return images_of_table(Table(FASHION.schema, columns, ()), "fashion", held_out=True)


def test_a_task_of_images_answers_the_same_through_the_seam_in_any_chunks() -> None:
    images, blob = fashion(5), Blob(first_model(FASHION, 3))
    model = image_model_of_task(FASHION, blob, name="fashion", digest="d")
    whole = asked_images(model, Work())(images.pixels)
    many = np.tile(images.pixels, (20, 1, 1))
    np.testing.assert_allclose(whole, FASHION.scored(blob, examples(FASHION.schema, 5)), atol=1e-6)
    np.testing.assert_allclose(
        asked_images(model, Work(memory_bytes=1 << 20, workers=2))(many), np.tile(whole, (20, 1)), atol=1e-6
    )
    assert len(Work(memory_bytes=1 << 20).chunks(100, memory_of_image(model, 28, 28))) > 10


def test_the_network_of_a_task_takes_pixels_as_floats_and_gives_logits() -> None:
    images, blob = fashion(4), Blob(first_model(FASHION, 3))
    model = image_model_of_task(FASHION, blob, name="fashion", digest="d")
    with torch.no_grad():
        logits = network_of(model)(torch.from_numpy(images.pixels[:, None].astype(np.float32)))
    chances = torch.softmax(logits.double(), dim=1).numpy()
    np.testing.assert_allclose(chances, asked_images(model, Work())(images.pixels), atol=1e-6)


def test_a_bare_function_has_no_network() -> None:
    with pytest.raises(BadInput, match="no network"):
        network_of(image_model_of_function(lambda pixels: pixels, KINDS))


def test_a_function_may_give_the_second_class_alone_of_images_and_of_pixels() -> None:
    of_images = image_model_of_function(lambda pixels: pixels.mean(axis=(1, 2)) / 255, KINDS)
    of_pixels = image_model_of_function(lambda pixels: pixels / 255, KINDS, segments=True)
    assert asked_images(of_images, Work())(PIXELS).shape == (2, 2)
    said = asked_images(of_pixels, Work())(PIXELS)
    np.testing.assert_allclose(said[:, 1], PIXELS / 255)
    np.testing.assert_allclose(said.sum(axis=1), 1)


def test_no_images_have_no_answers() -> None:
    model = image_model_of_function(lambda pixels: pixels / 255, KINDS, segments=True)
    assert asked_images(model, Work())(PIXELS[:0]).shape == (0, 2, 3, 4)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (np.zeros((2, 3, 3, 4)), "explain.shape"),
        (np.full((2, 2, 3, 4), np.nan), "explain.not_finite"),
        (np.full((2, 2, 3, 4), 1.5), "explain.probabilities"),
    ],
)
def test_an_answer_that_is_no_probability_of_each_class_is_refused(said: np.ndarray, code: str) -> None:
    model = image_model_of_function(lambda _: said, KINDS, segments=True)
    with pytest.raises(BadInput) as refused:
        asked_images(model, Work())(PIXELS)
    assert refused.value.code == code


def test_images_of_another_size_than_the_model_takes_are_refused() -> None:
    model = image_model_of_function(lambda pixels: pixels, KINDS, shape=(28, 28))
    with pytest.raises(BadInput, match="another size"):
        asked_images(model, Work())(PIXELS)


def test_a_mask_with_other_labels_is_refused_and_an_unlabelled_pixel_is_not() -> None:
    masks = np.zeros_like(PIXELS)
    masks[0, 0, 0] = UNLABELLED
    assert Images(PIXELS, KINDS, masks=masks).need_masks() is masks
    masks[1, 1, 1] = 2
    with pytest.raises(BadInput, match="none of the classes"):
        Images(PIXELS, KINDS, masks=masks)


def test_planes_of_another_shape_and_pixels_that_are_no_bytes_are_refused() -> None:
    with pytest.raises(BadInput, match="another shape"):
        Images(PIXELS, KINDS, masks=np.zeros((2, 4, 3), np.uint8))
    with pytest.raises(BadInput, match="another shape"):
        Images(PIXELS, KINDS, instances=np.zeros((1, 3, 4), np.int32))
    with pytest.raises(BadInput, match="another number"):
        Images(PIXELS, KINDS, labels=np.zeros(3, np.int64))
    with pytest.raises(BadInput, match="unsigned bytes"):
        Images(PIXELS.astype(np.float32), KINDS)


def test_taking_some_images_takes_all_that_belongs_to_them() -> None:
    masks = (PIXELS % 2).astype(np.uint8)
    images = Images(
        PIXELS, KINDS, masks=masks, instances=masks.astype(np.int32), beside={"owner": np.array(["a", "b"])}
    )
    second = images.take(np.array([1]))
    np.testing.assert_array_equal(second.need_masks(), masks[1:])
    assert second.beside["owner"].tolist() == ["b"]
    assert second.digest != images.digest == Images(PIXELS, KINDS, masks=masks, instances=masks.astype(np.int32)).digest


def test_where_no_labels_or_masks_are_known_the_question_is_refused() -> None:
    with pytest.raises(BadInput, match="no labels"):
        Images(PIXELS).need_labels()
    with pytest.raises(BadInput, match="no masks"):
        Images(PIXELS).need_masks()


def test_the_lineage_names_model_and_images_and_other_classes_are_refused() -> None:
    model = image_model_of_function(lambda pixels: pixels / 255, KINDS, segments=True, name="m")
    found = lineage_of_images(model, Images(PIXELS, KINDS, name="two", held_out=True), Work(seed=4))
    assert (found.model, found.data, found.rows, found.held_out, found.seed) == ("m", "two", 2, True, 4)
    with pytest.raises(BadInput, match="other classes"):
        lineage_of_images(model, Images(PIXELS, ("thing", "ground")), Work())
