"""`aimass model rules`, `promote --check` and `export --format`, as a person types them over a registry in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from aimass.client.tasks.heart import Heart, HeartTrees
from aimass.privacy.model_trust import FileTrust
from aimass.proto.commands import main
from aimass.proto.objects import open_objects
from aimass.proto.registry.entries import HeldOut, Interval
from aimass.proto.registry.trust import Signer
from aimass.proto.task import load, locate
from aimass.server.registry.authors import make_key
from aimass.server.registry.making import of_file, with_smoke
from aimass.server.registry.parts import Publication
from aimass.server.registry.publishing import Publisher
from aimass.server.registry.trusting import trusting, with_signer, write_trust


class Place:
    """A registry in a folder, a key, and whom to believe."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url, self.trust = folder, (folder / "registry").as_uri(), folder / "trust.json"
        self.author = make_key(folder / "olga")
        signer = Signer(name="olga", key=self.author.public, may=("publish", "promote"))
        write_trust(self.trust, with_signer(trusting(self.trust), signer))

    def publish(self, accuracy: float, seed: int, *, smoke: bool = False) -> str:
        """A version of the heart network with an accuracy that is said to be measured."""
        parameters = self.folder / f"{seed}.safetensors"
        parameters.write_bytes(Heart().first(seed))
        made = of_file("heart", locate("heart"), Heart.schema, parameters)
        metrics = {"accuracy": Interval(mean=accuracy, rows=500.0, low=accuracy - 0.01, high=accuracy + 0.01)}
        version = msgspec.structs.replace(made.version, metrics=metrics, held_out=HeldOut(digest="1" * 64))
        made = Publication(version, made.parameters, made.reports)
        return self.published(with_smoke(made, load(locate("heart"))) if smoke else made)

    def published(self, publication: Publication) -> str:
        store = open_objects(self.url)
        return str(Publisher(store, FileTrust(self.trust), self.author, lambda: 1_000.0).publish(publication))

    def rules(self, text: str) -> Path:
        path = self.folder / "rules.toml"
        path.write_text(text)
        return path

    def __call__(self, *words: str, signs: bool = True) -> int:
        where = ["--registry", self.url, "--trust", str(self.trust)]
        return main(["model", *words, *(["--as", str(self.folder / "olga")] if signs else []), *where, "--json"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


BY_ACCURACY = 'smoke = false\n[[metrics]]\nname = "accuracy"\nbetter = "higher"\n'


def test_rules_are_set_shown_checked_and_kept_by_promotion(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    good, worse = place.publish(0.8, 1), place.publish(0.79, 2)
    assert place("rules", "show", "heart", signs=False) == 4
    assert place("rules", "set", "heart", str(place.rules(BY_ACCURACY))) == 0
    assert place("promote", good) == 0
    capsys.readouterr()
    assert place("promote", worse, "--check") == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["candidate"], told["champion"], told["passed"]) == (worse, good, False)
    assert told["verdicts"][0]["figures"] == pytest.approx(
        {"new": 0.79, "old": 0.8, "gain": -0.01, "by": 0.0, "least_gain": -0.01 - 0.01 * 2**0.5}
    )
    assert place("promote", worse) == 3
    refused = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
    assert refused["code"] == "registry.rules"
    assert place("promote", worse, "--alias", "shadow") == 0
    assert place("promote", worse, "--despite-rules", "--reason", "the other one drifts") == 0
    capsys.readouterr()
    assert place("rules", "show", "heart", signs=False) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["signed_by"], shown["number"], shown["metrics"][0]["name"]) == ("olga", 1, "accuracy")


def test_a_person_s_file_with_a_slip_is_told_with_its_place(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place("rules", "set", "heart", str(place.rules("most_epsilom = 3\n"))) == 2
    assert "most_epsilom" in capsys.readouterr().err


def test_smoke_inputs_are_tried_by_the_task_itself(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with_inputs, without = place.publish(0.8, 1, smoke=True), place.publish(0.9, 2)
    assert place("rules", "set", "heart", str(place.rules(""))) == 0
    assert place("promote", without, "--check") == 3
    capsys.readouterr()
    assert place("promote", with_inputs, "--check") == 0
    assert "answered within 0 of what is expected" in json.loads(capsys.readouterr().out)["verdicts"][0]["said"]


def test_a_verdict_is_told_to_people_as_a_table(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    good = place.publish(0.8, 1)
    place("rules", "set", "heart", str(place.rules(BY_ACCURACY)))
    capsys.readouterr()
    where = ["--registry", place.url, "--trust", str(place.trust)]
    assert main(["model", "promote", good, "--check", "--as", str(place.folder / "olga"), *where]) == 0
    out = capsys.readouterr().out
    assert "accuracy is 0.8, and there is no champion to be better than" in out
    assert "heart@1 may be champion, by rules 1 of heart, of olga" in out


def test_a_version_is_exported_as_onnx_and_for_torch_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    version, file, folder = place.publish(0.8, 1), place.folder / "heart.onnx", place.folder / "alone"
    assert place("export", version, str(file), "--format", "onnx", signs=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["opset"], told["rows_compared"]) == (version, 20, 256)
    assert told["largest_difference"] <= 1e-5
    assert b"heart@1" in file.read_bytes()
    assert place("export", version, str(folder), "--format", "torch", signs=False) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt",
        "card.md",
        "model.pt2",
        "predict.py",
        "schema.json",
    ]


def test_trees_are_exported_for_others_and_refused_to_torch(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = place.folder / "trees.safetensors"
    parameters.write_bytes(HeartTrees().first(0))
    version = place.published(of_file("trees", locate("heart-trees"), HeartTrees.schema, parameters))
    assert place("export", version, str(place.folder / "trees.json"), "--format", "xgboost", signs=False) == 0
    assert "learner" in json.loads((place.folder / "trees.json").read_text())
    assert place("export", version, str(place.folder / "alone"), "--format", "torch", signs=False) == 3
    assert "export.no_network" in capsys.readouterr().err
    assert not (place.folder / "alone").exists()


def test_other_code_under_the_task_s_name_exports_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = place.folder / "old.safetensors"
    parameters.write_bytes(Heart().first(1))
    made = of_file("heart", locate("heart"), Heart.schema, parameters)
    older = msgspec.structs.replace(made.version, task=msgspec.structs.replace(made.version.task, digest="2" * 64))
    version = place.published(Publication(older, parameters))
    assert place("export", version, str(place.folder / "x.onnx"), "--format", "onnx", signs=False) == 8
    assert "registry.other_task" in capsys.readouterr().err
