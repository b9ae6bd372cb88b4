"""The commands of a registry, from a file of parameters to what is served and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimass.client.tasks.heart import task
from aimass.proto.commands import main
from aimass.proto.registry.smoke import made_up


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a key, a trust file, a registry in the environment, and two models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIMASS_REGISTRY", f"file://{tmp_path}/registry")
    monkeypatch.setenv("AIMASS_TRUST", str(tmp_path / "trust.json"))
    for seed in (1, 2):
        (tmp_path / f"model{seed}.safetensors").write_bytes(task.first(seed))
    assert main(["model", "key", "olga"]) == 0
    assert main(["model", "trust", "add", "olga", "--from", "olga"]) == 0
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], command: str) -> Any:
    """What a command prints as JSON; its error as JSON where it fails."""
    capsys.readouterr()
    code = main(["model", *command.split(), "--json"])
    captured = capsys.readouterr()
    return json.loads(captured.out) if not code else json.loads(captured.err.splitlines()[-1])["error"]


def test_the_life_of_two_versions(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        told = run(capsys, f"publish model{seed}.safetensors --task heart --as olga --licence CC0")
        assert (told["published"], told["signed_by"], told["smoke_inputs"]) == (f"heart@{seed}", "olga", "kept")
        assert run(capsys, f"promote heart@{seed} --as olga")["move"] == seed
    listed = run(capsys, "list heart")
    assert [(row["version"], row["stage"]) for row in listed] == [("heart@2", "champion"), ("heart@1", "archived")]
    assert run(capsys, "show heart")["number"] == 2
    differs = run(capsys, "diff heart@1 heart@2 --tensors")
    assert [row["what"] for row in differs["differences"]] == ["parameters"]
    assert differs["tensors"][0]["change"] > 0
    assert run(capsys, "rollback heart --as olga --reason worse")["names"] == "heart@1"
    assert run(capsys, "show heart")["alias"]["reason"] == "worse"
    assert [node["aliases"] for node in run(capsys, "lineage heart")["versions"]] == [["champion"], []]
    assert run(capsys, "verify heart")["wrong"] == 0
    assert run(capsys, "gc heart --keep 1 --grace-hours 0 --dry-run")["deleted"] == 0
    assert main(["model", "show", "heart"]) == 0
    assert "moved" not in capsys.readouterr().out


def test_what_was_promoted_before_a_registry_had_a_name_is_promoted_again(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "publish model1.safetensors --task heart --as olga")
    run(capsys, "promote heart@1 --as olga")
    assert run(capsys, "trust registry prod")["registry"] == "prod"
    assert run(capsys, "show heart")["code"] == "registry.other_registry"
    assert run(capsys, "promote heart@1 --as olga")["move"] == 2
    assert run(capsys, "show heart")["number"] == 1


def test_a_version_is_carried_into_another_registry(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "publish model1.safetensors --task heart --as olga")
    run(capsys, "export heart@1 carried")
    other = f"--registry file://{at}/other"
    assert run(capsys, f"import carried {other}")["imported"] == "heart@1"
    assert run(capsys, f"import carried --as olga {other}")["imported"] == "heart@2"
    assert [row["version"] for row in run(capsys, f"list {other}")] == ["heart@2", "heart@1"]


def test_rows_of_ones_own_measure_it_with_intervals(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = made_up(task.schema, 40, 0) | {task.schema.label.name: task.schema.classes * 20}
    cells = ["" if cell is None else str(cell) for row in zip(*columns.values(), strict=True) for cell in row]
    lines = [",".join(columns), *(",".join(cells[at : at + len(columns)]) for at in range(0, len(cells), len(columns)))]
    (at / "rows.csv").write_text("\n".join(lines) + "\n", "utf-8")
    told = run(capsys, "publish model1.safetensors --task heart --as olga --rows rows.csv")
    assert told.get("published") == "heart@1", told
    version = run(capsys, "show heart@1")
    accuracy = version["metrics"]["accuracy"]
    assert (accuracy["rows"], accuracy["low"] < accuracy["mean"] < accuracy["high"]) == (40, True)
    assert len(version["held_out"]["digest"]) == 64


def test_who_is_not_believed_any_more_is_read_and_written_no_more(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "publish model1.safetensors --task heart --as olga")
    run(capsys, "trust remove olga")
    assert run(capsys, "show heart@1")["code"] == "registry.unknown_signer"
    assert run(capsys, "publish model2.safetensors --task heart --as olga")["code"] == "registry.unknown_signer"
    assert run(capsys, "list")[0]["by"] == "not believed: registry.unknown_signer"
    assert main(["model", "verify", "heart", "--json"]) == 8


def test_whoever_names_no_place_is_told_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AIMASS_HOME", raising=False)
    monkeypatch.delenv("AIMASS_REGISTRY", raising=False)
    assert run(capsys, "list")["code"] == "model.where"
    assert run(capsys, "verify heart")["code"] == "registry.no_url"


def test_settings_stand_in_for_the_environment(
    at: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "publish model1.safetensors --task heart --as olga")
    for name in ("AIMASS_REGISTRY", "AIMASS_TRUST", "AIMASS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(at / "config"))
    (at / "config" / "aimass").mkdir(parents=True)
    (at / "trust.json").rename(at / "config" / "aimass" / "trust.json")
    (at / "config" / "aimass" / "registry.toml").write_text(f'url = "file://{at}/registry"\n', "utf-8")
    assert [row["version"] for row in run(capsys, "list")] == ["heart@1"]
