"""A task: what a data scientist writes once and partners, serving and explanation use unchanged.

A task is one Python package, named by an entry point in the group `aimass.tasks`. Its code does not travel: it is
installed by each side, and a plan names it with the digest of its files, which a partner's policy admits. Finding and
hashing a task never runs it.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from aimass.proto.bases import Base, Bases, base_in, own_bases
from aimass.proto.contribution import Metric
from aimass.proto.errors import BadInput, IntegrityError, NotFound, NotInstalled, Refused
from aimass.proto.frames import given_away
from aimass.proto.manifest import Schema, answer_shape
from aimass.proto.pages import forget_pages
from aimass.proto.predictors import Predictor, traced
from aimass.proto.rows import Batch, Table, encode
from aimass.proto.segmentation import mask_loss, mask_measures
from aimass.proto.servable import Servable
from aimass.proto.tensors import Blob, odd_forms, torch_forms, torch_parts

if TYPE_CHECKING:
    import torch

    from aimass.proto.wordpiece import WordPiece

__all__ = [
    "Task",
    "TaskSource",
    "auc",
    "checkpointed_layers",
    "digest_folder",
    "first_model",
    "installed_tasks",
    "load",
    "load_parameters",
    "locate",
    "package_folder",
    "usual_loss",
]

GROUP: Final = "aimass.tasks"
REQUIREMENTS: Final = "requirements.txt"
_LABEL: Final = b"AIMass task v1\0"
_RANGE: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*((?:(?:>=|<=|==|!=|<|>|~=)[^,\s]+)(?:,(?:>=|<=|==|!=|<|>|~=)[^,\s]+)*)?"
)


class Task:
    """A model, its loss and its measures over rows of one schema.

    Subclass with `schema` and `build`; classification over the schema's label, or regression where that is a number, is
    the default for the rest. Everything
    that standardises or imputes lives in the model as buffers under `preprocess.`, so that the parameters alone turn
    raw rows into predictions.

    What is no network has `first` and `predictor` instead of `build`: all that is asked of any model is where it begins
    and what it says of rows.

    A task may have a frozen `base`, which every side holds by its digest and no update carries. Its package names it in
    `base.toml`, and the class with `base = base_in(Path(__file__).parent)`; `build` puts its tensors (`base_blob`) into
    the model with `frozen.freeze`. The parameters of a run are the model's state dict, which the base is no part of.

    `checkpointed` names layers (`encoder.layers.*`) whose activations training may compute twice instead of keeping
    them, where a plan says `train.checkpointing`.
    """

    schema: ClassVar[Schema]
    base: ClassVar[Base | None] = None
    checkpointed: ClassVar[tuple[str, ...]] = ()
    bases: Bases | None = None

    def on(self, bases: Bases) -> Self:
        """This task with its base from there; without one it is found where `own_bases` has it."""
        bound = copy.copy(self)
        bound.bases = bases
        return bound

    def base_blob(self) -> Blob:
        """The base's tensors, read-only; raises `NotFound` where it is not here, `Conflict` where another is."""
        if self.base is None:
            raise BadInput("the task has no base", code="base.none", cure="Say which it is: `base = Base(...)`.")
        return (own_bases() if self.bases is None else self.bases).open(self.base)

    def build(self) -> torch.nn.Module:
        """A fresh network that maps a `Batch`'s tensors (see `inputs`) to logits [n, labels], or a number [n, 1]; of
        masks to logits [n, labels, h, w].

        Raises `Refused` where the task has none.
        """
        raise Refused(
            "this task's model is no network: it cannot be trained by gradient steps",
            code="task.no_network",
            value=type(self).__name__,
            cure="Name a driver for its kind of model in the plan's stages, or another task.",
        )

    def first(self, seed: int) -> bytes:
        """The blob that a run starts from: `build` under torch's generator at `seed`."""
        import torch  # noqa: PLC0415  (only who computes loads torch)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = torch_parts(self.build().state_dict())
        blob = io.BytesIO()  # gives its bytes without a copy, so that a large model is not in memory twice
        for part in given_away(parts):
            blob.write(part)
        return blob.getvalue()

    def predictor(self, parameters: Blob, device: str = "cpu") -> Predictor:
        """The model under `parameters` in memory, on `device`: what all predictions come from."""
        return functools.partial(self.probabilities, self.network(parameters, device))

    def servable(self, parameters: Blob, device: str = "cpu") -> Servable:
        """The model under `parameters` as serving asks it; by default rows of the schema, see `RowsServable`."""
        from aimass.proto.rows_servable import RowsServable  # noqa: PLC0415  (only serving needs it)

        if type(self).predictor is not Task.predictor:
            return RowsServable(self.schema, self.predictor(parameters, device))
        model = self.network(parameters, device)
        return RowsServable(self.schema, traced(self, model, device), lambda: torch_parts(model.state_dict()))

    def network(self, parameters: Blob, device: str = "cpu") -> torch.nn.Module:
        """A network under `parameters` that nobody else holds, in evaluation mode; raises `Refused` without `build`."""
        model = self.build()
        load_parameters(model, parameters)
        return model.to(device).eval()  # so that none of several threads that ask it at once switches its mode

    def scored(
        self, parameters: Blob, batch: Batch, *, size: int = 1024, device: str = "cpu"
    ) -> npt.NDArray[np.float64]:
        """Probabilities [n, labels] of rows under `parameters`, or a number's predictions [n, 1].

        They are computed `size` rows at a time on `device`. Who asks more than once keeps a `predictor`.
        """
        return self.predictor(parameters, device)(batch, size)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The model's arguments: images uint8 [n, channels, h, w], else numbers and categories as in `Batch`."""
        import torch  # noqa: PLC0415

        if batch.images is not None:
            images = torch.from_numpy(batch.images)
            return (images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous(),)
        return torch.from_numpy(batch.numbers), torch.from_numpy(batch.categories)

    def vocabulary(self) -> WordPiece:
        """What the ids that `inputs` makes of texts stand for, told to who explains; raises `Refused` without texts."""
        raise Refused(
            "this task names no vocabulary of pieces of text",
            code="task.no_vocabulary",
            value=type(self).__name__,
            cure="Give its class `vocabulary`, where it reads texts by WordPiece.",
        )

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch; `usual_loss` by default."""
        return usual_loss(self.schema, outputs, labels, "mean")

    def measures(self, probabilities: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> dict[str, Metric]:
        """Additive measures over held-out rows; one that is undefined here (AUC of one class) is left out.

        Of a label that is a number: the squared error as `loss`, and the absolute error. Of masks: `mask_measures`.
        """
        if self.schema.segments:
            return mask_measures(probabilities, labels, self.schema.classes)
        count = float(len(labels))
        if not self.schema.classes:
            errors = probabilities[:, 0] - labels
            return {
                "loss": Metric(float((errors**2).sum()), count),
                "absolute_error": Metric(float(np.abs(errors).sum()), count),
            }
        chosen = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
        measures = {
            "loss": Metric(float(-np.log(chosen).sum()), count),
            "accuracy": Metric(float((probabilities.argmax(axis=1) == labels).sum()), count),
        }
        if probabilities.shape[1] == 2:
            area = auc(probabilities[:, 1], labels == 1)
            if area is not None:
                measures["auc"] = Metric(area * count, count)
        return measures

    def predict(self, parameters: Blob, rows: Table) -> npt.NDArray[np.float64]:
        """Probabilities [n, labels] for raw rows: the one way from parameters and rows to a prediction."""
        return self.scored(parameters, encode(rows))

    def probabilities(self, model: torch.nn.Module, batch: Batch, size: int = 1024) -> npt.NDArray[np.float64]:
        """Softmax of the model's logits over a batch, in blocks of `size` rows on the model's own device.

        Where the label is a number, what the model puts out is its prediction; of masks it is [n, labels, h, w].
        """
        import torch  # noqa: PLC0415

        device = next(model.parameters()).device
        arguments = self.inputs(batch)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            blocks = [
                model(*(argument[start : start + size].to(device) for argument in arguments)).double()
                for start in range(0, len(batch.labels), size)
            ]
        model.train(was_training)
        if not blocks:
            return np.zeros((0, *answer_shape(self.schema)))
        outputs = torch.cat(blocks)
        return (torch.softmax(outputs, dim=1) if self.schema.classes else outputs).cpu().numpy()


def usual_loss(schema: Schema, outputs: torch.Tensor, labels: torch.Tensor, reduction: str) -> torch.Tensor:
    """Cross-entropy of logits, or the squared error of a number; of masks `mask_loss`: the mean, or that of each row
    with "none"."""
    from torch.nn.functional import cross_entropy, mse_loss  # noqa: PLC0415

    if schema.segments:
        return mask_loss(outputs, labels, reduction)
    if schema.classes:
        return cross_entropy(outputs, labels, reduction=reduction)
    return mse_loss(outputs[:, 0], labels.to(outputs.dtype), reduction=reduction)


def auc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve, exact with ties (Mann-Whitney U over n1 n0); None with one class alone."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(middle_ranks[inverse][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


@dataclasses.dataclass(frozen=True, slots=True)
class TaskSource:
    """An installed task that has not been run: where its files are and what they hash to."""

    name: str
    module: str
    attribute: str
    folder: Path
    digest: str
    requirements: tuple[str, ...]
    base: Base | None = None


def installed_tasks() -> tuple[str, ...]:
    """Names of all tasks that are installed here."""
    return tuple(sorted(entry.name for entry in importlib.metadata.entry_points(group=GROUP)))


def locate(name: str) -> TaskSource:
    """Find and hash an installed task without running any of it.

    Raises `NotFound` where no such task is installed and `BadInput` where its entry point does not name a package.
    """
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if name not in entries:
        raise NotFound(
            "no such task is installed",
            code="task.unknown",
            value=name,
            limit=", ".join(sorted(entries)) or "none",
            cure="Install its package here; task code never travels with a plan.",
        )
    module, _, attribute = entries[name].value.partition(":")
    folder = package_folder(module, name)
    requirements = folder / REQUIREMENTS
    ranges = (
        tuple(
            line.strip()
            for line in requirements.read_text("utf-8").splitlines()
            if line.strip() and not line.startswith("#")
        )
        if requirements.is_file()
        else ()
    )
    return TaskSource(name, module, attribute or "task", folder, digest_folder(folder), ranges, base_in(folder))


def package_folder(module: str, name: str) -> Path:
    """The folder of a package, found by path alone: importing a parent package would run code."""
    parts = module.split(".")
    for place in sys.path:
        folder = Path(place or ".").joinpath(*parts)
        if (folder / "__init__.py").is_file():
            return folder.resolve()
    spec = importlib.util.find_spec(parts[0])
    for place in spec.submodule_search_locations or () if spec else ():
        folder = Path(place).joinpath(*parts[1:])
        if (folder / "__init__.py").is_file():
            return folder.resolve()
    raise BadInput(
        "a task's entry point must name a package: a folder with __init__.py",
        code="task.not_a_package",
        value=module,
        cure=f"Move the module of task {name!r} into a folder of its own.",
    )


def digest_folder(folder: Path) -> str:
    """SHA-256 over the sorted (path, SHA-256) of every file of a task's folder but caches.

    Layout: label, u32 count, then for each file u16 length and UTF-8 of its path with `/`, and its 32-byte digest.
    """
    files = sorted(
        (path.relative_to(folder).as_posix().encode(), path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    hasher = hashlib.sha256(_LABEL + len(files).to_bytes(4, "big"))
    for relative, path in files:
        hasher.update(len(relative).to_bytes(2, "big") + relative + hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def load(source: TaskSource, bases: Bases | None = None) -> Task:
    """Import a located task, after its files and the installed versions were checked once more.

    Its base, if it has one, comes from `bases` (see `Task.on`) when a model is built. Raises `IntegrityError` where the
    files have changed, `NotInstalled` where a requirement is absent or outside its range, `BadInput` where the entry
    point is no `Task`.
    """
    found = digest_folder(source.folder)
    if found != source.digest:
        raise IntegrityError("the task's files have changed", code="task.changed", value=found, limit=source.digest)
    for requirement in source.requirements:
        _check_requirement(requirement)
    task = getattr(importlib.import_module(source.module), source.attribute, None)
    if not isinstance(task, Task):
        raise BadInput(
            "the entry point does not give a Task", code="task.kind", value=f"{source.module}:{source.attribute}"
        )
    if task.base != source.base:
        raise BadInput(
            "the task's base is not the one that its base.toml names",
            code="task.base_file",
            value=source.module,
            cure="In the class: base = base_in(Path(__file__).parent).",
        )
    return task if bases is None else task.on(bases)


def _check_requirement(requirement: str) -> None:
    match = _RANGE.fullmatch(requirement)
    if match is None:
        raise BadInput(
            "a task's requirement cannot be read", code="task.requirement", value=requirement, limit="name>=1,<2"
        )
    name, ranges = match.group(1), match.group(2) or ""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise NotInstalled(
            "a package that the task needs is absent", code="task.requirement", value=requirement
        ) from None
    for clause in filter(None, ranges.split(",")):
        operator = re.match(r"[<>=!~]+", clause)
        if operator and not _satisfies(version, operator.group(), clause[operator.end() :]):
            raise NotInstalled(
                f"the installed {name} is outside the task's range",
                code="task.requirement",
                value=version,
                limit=ranges,
            )


def _satisfies(version: str, operator: str, bound: str) -> bool:
    have, want = _release(version), _release(bound)
    width = max(len(have), len(want))
    have, want = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
    return {
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want,
        "==": have == want,
        "!=": have != want,
        "~=": have >= want and have[: len(_release(bound)) - 1] == want[: len(_release(bound)) - 1],
    }[operator]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[0-9.]*", version).group().strip(".").split(".") if part)  # type: ignore[union-attr]


def first_model(task: Task, seed: int) -> bytes:
    """The blob that a run starts from."""
    return task.first(seed)


def checkpointed_layers(task: Task) -> tuple[str, ...]:
    """The layers of a task that need not keep their activations; raises `Refused` where it names none."""
    if not task.checkpointed:
        raise Refused(
            "the task names no layers whose activations could be computed twice",
            code="task.not_checkpointed",
            value=type(task).__name__,
            cure='Leave `train.checkpointing` out, or give the task `checkpointed = ("layers.*",)`.',
        )
    return task.checkpointed


def load_parameters(model: torch.nn.Module, parameters: Blob) -> None:
    """Copy a blob's tensors into `model`; raises `BadInput` where names, shapes or dtypes differ."""
    state: Mapping[str, Any] = model.state_dict()
    if odd := odd_forms(parameters.layout.shapes(), torch_forms(state)):
        raise BadInput(
            "the parameters are not those of this task's model", code="task.parameters", value=", ".join(odd[:5])
        )
    import torch  # noqa: PLC0415

    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(parameters.torch(name))
            forget_pages(parameters.numpy(name))
