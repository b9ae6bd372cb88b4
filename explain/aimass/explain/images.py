"""Images that are explained, and what says something of them: one label an image, or one a pixel.

A volume is images too: its slices in order, with the size of a voxel. What is said of it is said slice by slice.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from aimass.explain.lineage import Lineage, software
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.manifest import UNLABELLED, Image, Schema
from aimass.proto.rows import Batch, Table, has_label
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "SLICE",
    "SOURCE",
    "UNLABELLED",
    "FunctionImageModel",
    "ImageModel",
    "Images",
    "Segment",
    "asked_images",
    "image_column",
    "image_model_of_function",
    "image_model_of_task",
    "images_of_table",
    "lineage_of_images",
    "memory_of_image",
    "network_of",
]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Segment = Callable[[Pixels], Floats]
"""uint8 [n, h, w] or [n, h, w, channels] to float64 [n, classes], or [n, classes, h, w] of what segments."""
SOURCE: Final = "source"
"""The column beside images that says which photograph, or whose body, each is a part of."""
SLICE: Final = "slice"
"""The column beside images that says which slice of a body each is."""
_UNDERWAY: Final = 768
"""Bytes a pixel that a small convolutional network holds underway, beside its answer."""
_TOLERANCE: Final = 1e-4


@dataclasses.dataclass(frozen=True)
class Images:
    """`pixels` uint8 [n, h, w] or [n, h, w, channels] with a label an image, or with a mask.

    `labels` int64 [n] and `masks` uint8 [n, h, w] are places in `classes`; a pixel of `UNLABELLED` has none.
    `instances` int32 [n, h, w] numbers the single things of an image from 1, 0 is none of them. `spacing` is the size
    of a pixel (row, column), or of a voxel (slice, row, column), in `unit`. `volume` says that the images are the
    slices of one body in order. `beside` [n] are columns that no model sees: an owner, a place; under `SOURCE` what
    each is a part of. `held_out` says whether the model was trained without these images; None where that is not known.
    """

    pixels: Pixels
    classes: tuple[str, ...] = ()
    labels: npt.NDArray[np.int64] | None = None
    masks: Pixels | None = None
    instances: npt.NDArray[np.int32] | None = None
    name: str = "images"
    held_out: bool | None = None
    volume: bool = False
    spacing: tuple[float, ...] = ()
    unit: str = "px"
    beside: Mapping[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim not in {3, 4}:
            raise BadInput(
                "images are unsigned bytes [n, height, width] or [n, height, width, channels]",
                code="explain.images",
                value=f"{self.pixels.dtype} {self.pixels.shape}",
            )
        for name, planes in (("masks", self.masks), ("instances", self.instances)):
            if planes is not None and planes.shape != self.pixels.shape[:3]:
                raise BadInput(
                    f"{name} have another shape than the images",
                    code="explain.images",
                    value=str(planes.shape),
                    limit=str(self.pixels.shape[:3]),
                )
        for name, column in (("labels", self.labels), *self.beside.items()):
            if column is not None and len(column) != len(self.pixels):
                raise BadInput(
                    f"{name} has another number of images", code="explain.images", value=len(column), limit=len(self)
                )
        _check_places("an image's label", self.labels, self.classes)
        _check_places("a mask's pixel", None if self.masks is None else _labelled(self.masks), self.classes)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def slices(self) -> npt.NDArray[np.int64]:
        """Of a volume, which slice each image is: as stands beside them, else counted from 0."""
        return np.asarray(self.beside.get(SLICE, np.arange(len(self)))).astype(np.int64)

    @property
    def limits(self) -> tuple[str, ...]:
        """What results about these images have to say that they do not show."""
        sources = np.unique(self.beside[SOURCE].astype(str)) if SOURCE in self.beside else np.empty(0)
        found = []
        if len(sources) == 1 and len(self) > 1:
            found.append(
                f"All {len(self)} images are parts of {sources[0]}: what is found here need not hold for any other, "
                "and no interval over them says how far it does."
            )
        elif self.volume:
            found.append(
                "The images are slices of one body, and neighbours are alike: nothing is said of other bodies."
            )
        return tuple(found)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[2])

    def take(self, images: npt.NDArray[Any] | slice) -> Images:
        """The images at these positions or under this mask."""
        return dataclasses.replace(
            self,
            pixels=self.pixels[images],
            labels=None if self.labels is None else self.labels[images],
            masks=None if self.masks is None else self.masks[images],
            instances=None if self.instances is None else self.instances[images],
            beside={name: column[images] for name, column in self.beside.items()},
        )

    def need_labels(self) -> npt.NDArray[np.int64]:
        """The labels; raises `BadInput` where the question cannot be answered without."""
        if self.labels is None:
            raise BadInput("these images have no labels", code="explain.labels", cure="Give images with known labels.")
        return self.labels

    def need_masks(self) -> Pixels:
        """The masks; raises `BadInput` where the question cannot be answered without."""
        if self.masks is None:
            raise BadInput("these images have no masks", code="explain.masks", cure="Give images with known masks.")
        return self.masks

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, labels, masks, instances and classes; of neither the name nor what stands beside."""
        found = hashlib.sha256(b"AIMass images v1\0" + canonical_json(self.classes))
        for part in (self.pixels, self.labels, self.masks, self.instances):
            values = np.zeros(0) if part is None else np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            found.update(f"{values.dtype.name}{values.shape}".encode() + values.tobytes())
        return found.hexdigest()


class ImageModel(Protocol):
    """What says of images how likely each of `classes` is: of an image, or of each pixel where it `segments`."""

    @property
    def name(self) -> str:
        """By which people know it."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its parameters, empty where nobody knows them."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What an image or a pixel can be."""
        ...

    @property
    def segments(self) -> bool:
        """Whether it answers for each pixel."""
        ...

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(height, width) or (height, width, channels) that it takes; None where it takes any."""
        ...

    def predict(self, pixels: Pixels) -> Floats:
        """float64 [n, classes], or [n, classes, h, w] where it segments, of uint8 [n, h, w(, channels)]."""
        ...


@dataclasses.dataclass(frozen=True)
class FunctionImageModel:
    """A function with the names of what it tells apart.

    `network`, where it is known, is what views by gradients look into: in evaluation mode, float32
    [n, channels, h, w] of pixels from 0 to 255 in, logits [n, classes(, h, w)] out.
    """

    function: Segment
    classes: tuple[str, ...]
    segments: bool = False
    shape: tuple[int, ...] | None = None
    name: str = "model"
    digest: str = ""
    run: str = ""
    round: int | None = None
    network: torch.nn.Module | None = None

    def predict(self, pixels: Pixels) -> Floats:
        """What the function says."""
        return np.asarray(self.function(pixels), np.float64)


def image_model_of_function(
    function: Callable[[Any], Any],
    classes: Sequence[str],
    *,
    segments: bool = False,
    shape: tuple[int, ...] | None = None,
    name: str = "model",
) -> FunctionImageModel:
    """Any function of uint8 images. Of two classes it may give the second's probability alone: [n], or [n, h, w]."""
    axes = 4 if segments else 2

    def both(pixels: Pixels) -> Floats:
        said = np.asarray(function(pixels), np.float64)
        if len(classes) == 2 and said.ndim == axes - 1:
            return np.stack([1.0 - said, said], axis=1)
        return said

    return FunctionImageModel(both, tuple(classes), segments, shape, name)


def image_model_of_task(
    task: Task, parameters: Blob, *, name: str, digest: str, run: str = "", round_: int | None = None
) -> FunctionImageModel:
    """A task's model of one image column under these parameters; raises `BadInput` for one of tables or texts."""
    column = image_column(task.schema)
    predictor = task.predictor(parameters)
    return FunctionImageModel(
        lambda pixels: predictor(_batch(pixels)),
        task.schema.classes,
        task.schema.segments,
        column.shape,
        name,
        digest,
        run,
        round_,
        task.network(parameters) if type(task).predictor is Task.predictor else None,
    )


def image_column(schema: Schema) -> Image:
    """The one column of a schema of images; raises `BadInput` for another schema."""
    if len(schema.columns) != 1 or not isinstance(schema.columns[0], Image) or not schema.classes:
        raise BadInput(
            "this model takes no image alone, or tells no classes apart",
            code="explain.image_schema",
            value=schema.name,
            cure="Tables and texts have views of their own.",
        )
    return schema.columns[0]


def images_of_table(
    table: Table, name: str = "images", *, held_out: bool | None = None, **beside: npt.NDArray[Any]
) -> Images:
    """Typed columns as images; labels of which any is missing, and masks of which all are, count as none."""
    labels, known = table.columns[table.schema.label.name], has_label(table)
    segments = table.schema.segments
    return Images(
        table.columns[image_column(table.schema).name],
        table.schema.classes,
        labels if len(labels) and known.all() and not segments else None,
        labels if known.any() and segments else None,
        name=name,
        held_out=held_out,
        beside=beside,
    )


def network_of(model: ImageModel) -> torch.nn.Module:
    """The network of a model, see `FunctionImageModel`; raises `BadInput` where it is a bare function."""
    found: torch.nn.Module | None = getattr(model, "network", None)
    if found is None:
        raise BadInput(
            "this model has no network to take gradients of",
            code="explain.no_network",
            value=model.name,
            cure="Ask for a view that needs predictions alone: occlusion, say.",
        )
    return found


def memory_of_image(model: ImageModel, height: int, width: int) -> int:
    """About how many bytes one image costs while the model is asked about it: for `Work.chunks`."""
    return height * width * (_UNDERWAY + 16 * len(model.classes))


def asked_images(model: ImageModel, work: Work, what: str = "") -> Segment:
    """How a view asks: about any number of images, in chunks within the work's memory.

    The function raises `BadInput` for images of another size, and where the answer has another shape or is no
    probability. It holds the answers of all: who has many pixels asks for a few images at a time.
    """

    def predict(pixels: Pixels) -> Floats:
        if model.shape is not None and pixels.shape[1:] != model.shape:
            raise BadInput(
                "the images have another size than the model takes",
                code="explain.image_size",
                value=str(pixels.shape[1:]),
                limit=str(model.shape),
                cure="Cut or pad them to that size; scaling changes what the model sees.",
            )
        planes = pixels.shape[1:3] if model.segments else ()
        if not len(pixels):
            return np.zeros((0, len(model.classes), *planes))
        parts = work.chunks(len(pixels), memory_of_image(model, *pixels.shape[1:3]))
        found = work.each(lambda part: _answer(model, pixels[part], planes), parts, what)
        return found[0] if len(found) == 1 else np.concatenate(found)

    return predict


def _answer(model: ImageModel, pixels: Pixels, planes: tuple[int, ...]) -> Floats:
    said, wanted = model.predict(pixels), (len(pixels), len(model.classes), *planes)
    if said.shape != wanted:
        raise BadInput(
            "the model answers in another shape", code="explain.shape", value=str(said.shape), limit=str(wanted)
        )
    if not np.isfinite(said).all():
        raise BadInput(
            "the model answers what is no number",
            code="explain.not_finite",
            value=f"{int((~np.isfinite(said)).any(axis=tuple(range(1, said.ndim))).sum())} of {len(said)} images",
            cure="Look at these images with the model alone.",
        )
    if said.min() < -_TOLERANCE or said.max() > 1 + _TOLERANCE:
        raise BadInput(
            "the model answers no probabilities",
            code="explain.probabilities",
            value=f"{said.min():g} to {said.max():g}",
            limit="0 to 1",
            cure="Give a function that ends in a softmax or a sigmoid.",
        )
    return said


def lineage_of_images(model: ImageModel, images: Images, work: Work, *, seeded: bool = True) -> Lineage:
    """Of a result about `model` over `images`; raises `BadInput` where they have other classes than the model."""
    if images.classes and images.classes != model.classes:
        raise BadInput(
            "the images have other classes than the model",
            code="explain.classes",
            value=", ".join(images.classes),
            limit=", ".join(model.classes),
        )
    return Lineage(
        model=model.name,
        model_digest=model.digest,
        data=images.name,
        data_digest=images.digest,
        rows=len(images),
        held_out=images.held_out,
        run=getattr(model, "run", ""),
        round=getattr(model, "round", None),
        seed=work.seed if seeded else None,
        software=software(),
    )


def _batch(pixels: Pixels) -> Batch:
    count = len(pixels)
    return Batch(np.zeros((count, 0), np.float32), np.zeros((count, 0), np.int64), pixels, np.zeros(count, np.int64))


def _labelled(masks: Pixels) -> Pixels:
    known: Pixels = masks[masks != UNLABELLED]
    return known


def _check_places(what: str, places: npt.NDArray[Any] | None, classes: tuple[str, ...]) -> None:
    if places is None or not places.size:
        return
    low, high = int(places.min()), int(places.max())
    if low < 0 or high >= len(classes):
        raise BadInput(
            f"{what} is none of the classes",
            code="explain.classes",
            value=low if low < 0 else high,
            limit=f"0 to {len(classes) - 1}: {', '.join(classes)}",
            cure=f"Number the classes from 0; {UNLABELLED} in a mask stands for what nobody has labelled.",
        )
