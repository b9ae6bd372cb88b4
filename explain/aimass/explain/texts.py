"""Texts that are explained, and what says something of them, as the pieces that its tokeniser cuts them into."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimass.explain.lineage import Lineage, software
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema, Text
from aimass.proto.rows import Batch, Table, has_label
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.proto.wordpiece import WordPiece

if TYPE_CHECKING:
    import torch

__all__ = ["TextModel", "Texts", "lineage_of_texts", "text_model_of_task", "texts_of_table"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Texts:
    """`texts` with `labels` int64 [n], places in `classes`, where they are known.

    `held_out` says whether the model was trained without them; None where that is not known. `beside` [n] are columns
    that no model sees.
    """

    texts: tuple[str, ...]
    classes: tuple[str, ...] = ()
    labels: npt.NDArray[np.int64] | None = None
    name: str = "texts"
    held_out: bool | None = None
    beside: Mapping[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise BadInput(
                "labels has another number of texts", code="explain.texts", value=len(self.labels), limit=len(self)
            )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, which: npt.NDArray[np.bool_]) -> Texts:
        """The texts under this mask."""
        return dataclasses.replace(
            self,
            texts=tuple(text for text, there in zip(self.texts, which, strict=True) if there),
            labels=None if self.labels is None else self.labels[which],
            beside={name: column[which] for name, column in self.beside.items()},
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of texts, labels and classes."""
        labels = None if self.labels is None else self.labels.tolist()
        return hashlib.sha256(b"AIMass texts v1\0" + canonical_json((self.texts, labels, self.classes))).hexdigest()


@dataclasses.dataclass(frozen=True)
class TextModel:
    """A network over token ids: `network` in evaluation mode gives logits [n, classes] of int64 [n, tokens].

    `ids` are those of texts, as the model takes them; `vocabulary` says what they stand for.
    """

    network: torch.nn.Module
    ids: Callable[[Sequence[str]], Ids]
    vocabulary: WordPiece
    classes: tuple[str, ...]
    name: str = "model"
    digest: str = ""
    run: str = ""
    round: int | None = None

    def predict_ids(self, ids: Ids) -> Floats:
        """float64 [n, classes]: probabilities of rows of ids; raises `BadInput` where they are no numbers."""
        import torch  # noqa: PLC0415  (only who computes loads torch)

        with torch.no_grad():
            said: Floats = torch.softmax(self.network(torch.from_numpy(ids)).double(), dim=1).numpy()
        if said.shape != (len(ids), len(self.classes)) or not np.isfinite(said).all():
            raise BadInput("the model answers what is no number", code="explain.not_finite", value=str(said.shape))
        return said


def text_model_of_task(
    task: Task, parameters: Blob, *, name: str, digest: str, run: str = "", round_: int | None = None
) -> TextModel:
    """A task's model of one column of texts under these parameters; raises `BadInput` for one of other columns."""
    _text_column(task.schema)

    def ids(texts: Sequence[str]) -> Ids:
        found: Ids = task.inputs(_batch(texts))[0].numpy()
        return found

    return TextModel(task.network(parameters), ids, task.vocabulary(), task.schema.classes, name, digest, run, round_)


def texts_of_table(table: Table, name: str = "texts", *, held_out: bool | None = None) -> Texts:
    """Typed columns as texts; labels that are missing anywhere count as none."""
    texts = tuple("" if text is None else str(text) for text in table.columns[_text_column(table.schema).name])
    labels = table.columns[table.schema.label.name]
    known = len(texts) > 0 and bool(has_label(table).all())
    return Texts(texts, table.schema.classes, labels if known else None, name, held_out)


def lineage_of_texts(model: TextModel, texts: Texts, work: Work) -> Lineage:
    """Of a result about `model` over `texts`."""
    return Lineage(
        model=model.name,
        model_digest=model.digest,
        data=texts.name,
        data_digest=texts.digest,
        rows=len(texts),
        held_out=texts.held_out,
        run=model.run,
        round=model.round,
        seed=work.seed,
        software=software(),
    )


def _text_column(schema: Schema) -> Text:
    if len(schema.columns) != 1 or not isinstance(schema.columns[0], Text) or not schema.classes:
        raise BadInput(
            "this model takes no text alone, or tells no classes apart",
            code="explain.text_schema",
            value=schema.name,
            cure="Tables and images have views of their own.",
        )
    return schema.columns[0]


def _batch(texts: Sequence[str]) -> Batch:
    count, none = len(texts), np.zeros((len(texts), 0))
    words: npt.NDArray[Any] = np.array(list(texts), object)
    return Batch(none.astype(np.float32), none.astype(np.int64), None, np.zeros(count, np.int64), words)
