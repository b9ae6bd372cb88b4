"""A model by each of its names: a registry's, a file's, a function's; and a sentence where there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from aimass.explain.images import FunctionImageModel, Images
from aimass.explain.models import Model, lineage_of, model_of_function
from aimass.explain.opening import Where, open_subject
from aimass.explain.rows import Rows, features_of
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, IntegrityError, NotFound
from aimass.proto.plan import TaskRef
from aimass.proto.predictors import examples
from aimass.proto.resuming import Progress
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from tests.explain.runs.made import plan
from tests.support.served_heart import CARD, FIRST, TASK, publish_heart

ROWS = Rows(features_of(TASK.schema), np.full((2, 13), np.nan))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AIMASS_REGISTRY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def said(model: Model) -> list[float]:
    return [round(float(cell), 9) for cell in model.predict(ROWS.values)[0]]


def test_a_file_with_its_task_is_the_tasks_model(cached: Path) -> None:
    path = cached / "first.safetensors"
    path.write_bytes(FIRST)
    subject = open_subject(str(path), Where(task="heart"))
    model = subject.build(ROWS)
    expected = load(locate("heart")).predictor
    assert (model.name, model.outputs, model.classifies, len(model.digest)) == (
        "heart (first.safetensors)",
        ("no", "yes"),
        True,
        64,
    )
    np.testing.assert_allclose(model.predict(ROWS.values), expected(Blob(FIRST))(ROWS.batch()))
    with pytest.raises(BadInput, match="--task"):
        open_subject(str(path))
    with pytest.raises(NotFound):
        open_subject(str(cached / "absent.safetensors"), Where(task="heart"))


def _registry(folder: Path, digest: str = "") -> Where:
    url, trust = publish_heart(folder, digest)
    return Where(registry=url, trust=str(trust))


def test_a_registered_version_is_verified_and_knows_its_card(cached: Path) -> None:
    where = _registry(cached)
    subject = open_subject("heart@champion", where)
    model = subject.build(ROWS)
    assert (model.name, subject.card, subject.version is not None) == ("heart@1", CARD, True)
    assert subject.schema == TASK.schema
    assert said(model) == said(open_subject("heart@1", where).build(ROWS))
    with pytest.raises(NotFound):
        open_subject("heart@4", where)


def test_a_version_of_another_code_of_its_task_is_refused(cached: Path) -> None:
    with pytest.raises(IntegrityError, match="another code"):
        open_subject("heart@champion", _registry(cached, "0" * 64))


def test_without_any_place_the_places_are_told(cached: Path) -> None:
    with pytest.raises(BadInput, match="--registry URL"):
        open_subject("heart@champion")


class Federation:
    """A server with one run of the task, whose models were committed; it counts what is fetched."""

    def __init__(self, *rounds: int, digest: str = "") -> None:
        task = TaskRef(name="heart", digest=digest or locate("heart").digest)
        self.view = SimpleNamespace(plan=msgspec.structs.replace(plan(), task=task))
        self.models = lambda run, limit: [SimpleNamespace(digest=Blob(FIRST).digest, round=one) for one in rounds][
            :limit
        ]
        self.fetched = 0

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def run(self, reference: str) -> object:
        assert reference == "last"
        return SimpleNamespace(id="ab" * 16, view=self.view)

    def export(self, digest: str, path: Path, progress: Progress) -> None:
        self.fetched += 1
        path.write_bytes(FIRST)


def test_a_runs_last_model_is_fetched_once_and_again_where_the_copy_is_damaged(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Federation(20, 19)
    monkeypatch.setattr("aimass.proto.api.Federation.open", lambda *_: server)
    where = Where(home=cached)
    models = [open_subject("last", where).build(ROWS) for _ in range(2)]
    (copy,) = (cached / "cache/explain/models").glob("*.safetensors")
    copy.write_bytes(b"damaged")
    models.append(open_subject("last", where).build(ROWS))
    assert {(model.name, model.digest) for model in models} == {("heart", Blob(FIRST).digest)}
    assert server.fetched == 2
    assert (
        lineage_of(models[0], ROWS, Work())
        .line()
        .startswith(f"heart {models[0].digest[:12]} of run {'ab' * 16}, round 20")
    )


@pytest.mark.parametrize(
    ("server", "kind"), [(Federation(), NotFound), (Federation(1, digest="0" * 64), IntegrityError)]
)
def test_a_run_without_a_model_and_one_of_another_code_are_told(
    cached: Path, monkeypatch: pytest.MonkeyPatch, server: Federation, kind: type[Exception]
) -> None:
    monkeypatch.setattr("aimass.proto.api.Federation.open", lambda *_: server)
    with pytest.raises(kind):
        open_subject("last", Where(home=cached))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "class Estimator:\n"
        "    classes_ = ['no', 'yes']\n"
        "    def predict_proba(self, x):\n"
        "        return [[0.25, 0.75]] * len(x)\n"
        "class Places(Estimator):\n"
        "    classes_ = [0, 1]\n"
        "class models:\n"
        "    estimator = Estimator()\n"
        "    places = Places()\n"
        "def predict(x):\n"
        "    return x[:, 0]\n"
        "number = 3\n"
    )
    return name


def test_functions_and_estimators_of_ones_own_take_the_columns_that_the_rows_have(module: str) -> None:
    rows = Rows.of([[1.0, 2.0], [3.0, 4.0]], ["a", "b"], [0.5, 1.5])
    model = open_subject(f"{module}:predict").build(rows)
    assert (model.predict(rows.values).tolist(), model.digest) == ([[1.0], [3.0]], "")
    assert [feature.name for feature in model.features] == ["a", "b"]
    classes = Rows.of([[1.0, 2.0]], ["a", "b"], [1], ["no", "yes"])
    estimator = open_subject(f"{module}:models.estimator").build(classes)
    assert (estimator.outputs, estimator.predict(classes.values).tolist()) == (("no", "yes"), [[0.25, 0.75]])
    assert open_subject(f"{module}:models.places").build(classes).outputs == ("no", "yes")
    assert open_subject(f"{module}:models.places").build(rows).outputs == ("0", "1")
    assert open_subject(f"{module}:predict", Where(task="heart")).schema == TASK.schema


def test_labels_are_matched_with_outputs_by_name() -> None:
    rows = Rows.of([[1.0], [2.0], [3.0]], ["a"], [1, 0, 1], ["no", "yes"])
    model = model_of_function(lambda x: np.ones((len(x), 3)) / 3, ["a"], ["maybe", "yes", "no"])
    with pytest.raises(BadInput, match="another order"):
        lineage_of(model, rows, Work())
    matched = rows.labelled(model.outputs)
    assert matched.labels is not None
    assert ([matched.classes[label] for label in matched.labels], matched.classes) == (
        ["yes", "no", "yes"],
        model.outputs,
    )
    assert lineage_of(model, matched, Work()).rows == 3
    with pytest.raises(BadInput, match="does not know"):
        rows.labelled(["no", "maybe"])


def test_outcomes_are_not_guessed_from_one_alone(module: str) -> None:
    rows = Rows.of([[1.0, 2.0]], ["a", "b"], [0], ["yes"])
    with pytest.raises(BadInput, match="one outcome alone"):
        open_subject(f"{module}:predict").build(rows)


@pytest.mark.parametrize(
    ("reference", "kind"), [("no_such_module:predict", NotFound), ("{}:absent", NotFound), ("{}:number", BadInput)]
)
def test_what_is_no_function_is_told_by_name(module: str, reference: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        open_subject(reference.format(module)).build(Rows.of([[1.0]]))


def test_a_task_of_images_is_a_model_of_images_and_no_question_about_tables_takes_it(cached: Path) -> None:
    nuclei = load(locate("nuclei"))
    path = cached / "unet.safetensors"
    path.write_bytes(first_model(nuclei, 1))
    subject = open_subject(str(path), Where(task="nuclei"))
    images = Images(np.zeros((2, 56, 56), np.uint8))
    model = subject.model_for("images", images)
    assert isinstance(model, FunctionImageModel)
    assert (model.name, model.segments, model.shape, model.classes) == (
        "nuclei (unet.safetensors)", True, (56, 56), ("ground", "nucleus"),
    )  # fmt: skip
    batch = dataclasses.replace(examples(nuclei.schema, 2), images=images.pixels)
    np.testing.assert_allclose(model.predict(images.pixels), nuclei.predictor(Blob(path.read_bytes()))(batch))
    with pytest.raises(BadInput, match="about tables"):
        subject.model_for("rows", images)
    table = open_subject(str(_heart(cached)), Where(task="heart"))
    with pytest.raises(BadInput, match="about images"):
        table.model_for("images", ROWS)


def _heart(folder: Path) -> Path:
    path = folder / "heart.safetensors"
    path.write_bytes(FIRST)
    return path
