"""A model by its name: of a registry, of a run, in a file, served elsewhere, or a function of one's own."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aimass.explain.images import ImageModel, Images, image_model_of_task
from aimass.explain.models import Model, model_of_estimator, model_of_function, model_of_task
from aimass.explain.opening.fetched import fetched_model, models_folder
from aimass.explain.opening.served import served_model
from aimass.explain.questions import Kind
from aimass.explain.rows import Rows, features_of
from aimass.explain.texts import TextModel, Texts, text_model_of_task
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.hashing import digest_of
from aimass.proto.manifest import Schema
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.places import meant_trust, meant_url
from aimass.proto.storage import map_file
from aimass.proto.task import Task, load, locate
from aimass.proto.tensors import Blob
from aimass.proto.very_task import source_of

__all__ = ["Subject", "Where", "open_subject"]

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclasses.dataclass(frozen=True)
class Where:
    """What else says which model is meant: options of a command, empty where they were not given.

    `home` is the folder of a person at a training server, or of a service that brings one, whose token `bearer` gives;
    `task` the one that a file or a function is of, `token` the
    file that holds a bearer token for a served model, `authority` the certificates that its own is checked against.
    """

    registry: str = ""
    trust: str = ""
    home: Path | None = None
    bearer: Callable[[], str] | None = None
    task: str = ""
    token: Path | None = None
    authority: Path | None = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that was opened. `schema` says how its rows are read; None of a function that says nothing of them.

    `build` makes the model, of the rows where they alone say what its columns are; of images there is `images` instead,
    of texts `texts`. `card` is markdown. Of one with parameters at hand `task` names the task, `parameters` the file.
    """

    build: Callable[[Rows], Model]
    schema: Schema | None = None
    card: str = ""
    version: ModelVersion | None = None
    task: str = ""
    parameters: Path | None = None
    images: ImageModel | None = None
    texts: TextModel | None = None

    @property
    def kind(self) -> Kind:
        """What the model takes."""
        return "images" if self.images is not None else "texts" if self.texts is not None else "rows"

    def model_for(self, of: Kind, rows: Rows | Images | Texts) -> Model | ImageModel | TextModel:
        """The model that a question about rows, images or texts is about; raises `BadInput` where it is of another."""
        if of == "rows" and isinstance(rows, Rows):
            return self.build(rows)
        if of == "images" and self.images is not None:
            return self.images
        if of == "texts" and self.texts is not None:
            return self.texts
        raise BadInput(
            f"the question is about {'tables' if of == 'rows' else of}, and the model takes others",
            code="explain.kind",
            cure="`aimass explain --help` says what each question is about.",
        )


def open_subject(reference: str, where: Where = Where()) -> Subject:
    """What a reference names; raises a named error where there is none, or where it is not to be believed.

    `http(s)://…` is a served model; with a `home` a run or `last`; `module:function` a function, an estimator or a
    `Model`; `….safetensors` a file; anything else NAME, NAME@ALIAS or NAME@NUMBER of a registry.
    """
    if reference.startswith(("http://", "https://")):
        return _served(reference, where)
    if where.home is not None:
        return _of_run(reference, where.home, where.bearer)
    if _FUNCTION.fullmatch(reference):
        return _function(reference, where.task)
    if reference.endswith(".safetensors"):
        return _in_file(Path(reference), where.task)
    return _registered(reference, where)


def _served(url: str, where: Where) -> Subject:
    schema = load(locate(where.task)).schema if where.task else None
    model = served_model(url, schema, where.token, where.authority)
    return Subject(lambda _: model, schema or model.schema)


def _of_run(reference: str, home: Path, bearer: Callable[[], str] | None) -> Subject:
    """The last model of a run, fetched from the server once."""
    from aimass.proto.api import Federation  # noqa: PLC0415  (the wire)
    from aimass.proto.model_forms import schema_of  # noqa: PLC0415

    with Federation.open(home, bearer) as federation:
        run = federation.run(reference)
        plan, committed = run.view.plan, federation.models(run.id, 1)
        if not committed:
            raise NotFound(
                "this run has no model yet",
                code="explain.no_model",
                value=run.id,
                cure="aimass run watch shows why.",
            )
        model = committed[0]
        path = fetched_model(federation, model.digest)
    schema_of(plan)  # the very task, or none
    named = functools.partial(_model, name=plan.name, run=run.id, round_=model.round)
    card = _run_card(plan.name, run.id, model.round)
    return _of_task(plan.task.name, load(locate(plan.task.name)), path, named, card)


def _run_card(name: str, run: str, round_: int) -> str:
    return f"# {name}\n\nThe model of round {round_} of run `{run}`, which nobody has published.\n"


def _in_file(path: Path, task: str) -> Subject:
    if not task:
        raise BadInput(
            "a file of parameters does not say which task's they are",
            code="explain.task",
            value=path,
            cure="Give --task NAME; `aimass task list` shows those that are installed.",
        )
    if not path.is_file():
        raise NotFound("there is no such file of parameters", code="explain.file", value=path)
    return _of_task(task, load(locate(task)), path, functools.partial(_model, name=f"{task} ({path.name})"))


def _registered(reference: str, where: Where) -> Subject:
    from aimass.privacy.model_trust import FileTrust  # noqa: PLC0415  (signatures)
    from aimass.proto.objects import open_objects  # noqa: PLC0415
    from aimass.proto.registry.reader import RegistryReader  # noqa: PLC0415

    url = meant_url(where.registry)
    if not url:
        raise BadInput(
            "neither a registry nor anything else is named that has this model",
            code="explain.where",
            value=reference,
            cure="Give --registry URL for NAME@ALIAS, --as FOLDER for a run, or FILE.safetensors, http://…, "
            "or module:function.",
        )
    reader = RegistryReader(open_objects(url), FileTrust(meant_trust(where.trust)))
    found = reader.resolve(reference)
    version = found.version
    task = load(source_of(version.task))
    path = reader.parameters(version, models_folder())
    made = version.run
    named = functools.partial(
        _model,
        name=str(found),
        run="" if made is None else made.run_id,
        round_=None if made is None else made.rounds,
    )
    return dataclasses.replace(_of_task(version.task.name, task, path, named, version.card), version=version)


def _model(task: Task, parameters: Blob, **named: Any) -> Model | ImageModel | TextModel:
    """A task's model of a table, of images, or of texts."""
    if task.schema.images:
        return image_model_of_task(task, parameters, **named)
    return (
        text_model_of_task(task, parameters, **named) if task.schema.texts else model_of_task(task, parameters, **named)
    )


def _of_task(name: str, task: Task, path: Path, named: Callable[..., Any], card: str = "") -> Subject:
    if not task.schema.images and not task.schema.texts:
        features_of(task.schema)  # what is no table is refused before anything is read
    data = map_file(path)
    model = named(task, Blob(data), digest=digest_of((data,)))
    found = Subject(lambda _: model, task.schema, card, task=name, parameters=path)
    if task.schema.images:
        return dataclasses.replace(found, build=_no_table, images=model)
    return dataclasses.replace(found, build=_no_table, texts=model) if task.schema.texts else found


def _no_table(_: Rows) -> Model:
    raise BadInput("this model takes images or texts: it has no rows of a table", code="explain.kind")


def _function(reference: str, task: str) -> Subject:
    """It runs a module of the caller's own, as Python finds it from the working folder."""
    module, _, attribute = reference.partition(":")
    sys.path.insert(0, "")
    try:
        found: Any = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise NotFound("there is no such module", code="explain.module", value=module) from error
    except AttributeError as error:
        raise NotFound("the module has nothing of this name", code="explain.module", value=reference) from error
    finally:
        sys.path.remove("")
    if all(hasattr(found, name) for name in ("features", "outputs", "classifies", "predict")):
        return Subject(lambda _: found)
    if all(hasattr(found, name) for name in ("classes", "segments", "predict")):
        return Subject(_no_table, load(locate(task)).schema if task else None, images=found)
    schema = load(locate(task)).schema if task else None
    return Subject(functools.partial(_of_function, found, reference), schema)


def _of_function(found: Any, name: str, rows: Rows) -> Model:
    """What has been named, over the columns that the rows have; who was fitted to places says the rows' classes."""
    if hasattr(found, "predict_proba") or hasattr(found, "predict"):
        fitted = model_of_estimator(found, rows.features, name=name)
        places = tuple(map(str, range(len(rows.classes))))
        return dataclasses.replace(fitted, outputs=rows.classes) if fitted.outputs == places else fitted
    if len(rows.classes) == 1:
        raise BadInput(
            "the rows have one outcome alone, so nothing says which outcomes the model predicts",
            code="explain.one_class",
            value=rows.classes[0],
            cure="Give rows of the other outcomes too, or --task.",
        )
    if not callable(found):
        raise BadInput("this predicts nothing: it is no function, and has no `predict`", code="explain.model")
    return model_of_function(found, rows.features, rows.classes or ("prediction",), name=name)
