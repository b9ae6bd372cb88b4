"""`aimass offline compare` over an offline run, a simulation and a service: equal bits, or where they part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from tests.support.dealt_sets import registered
from tests.support.offline_runs import PLAN
from tests.support.simulations import shards_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An offline run, and simulations of the same plan and of others, over the same shards."""
    folder = tmp_path_factory.mktemp("compare")
    shards = shards_of(folder / "shards", "heart", Split(rule="iid", partners=3, seed=1))
    registered(open_objects(f"file://{folder}/store"), "heart", shards)
    for name, steps in (("plan", 3), ("longer", 4)):
        (folder / f"{name}.toml").write_text(PLAN.replace("\nsteps = 3", f"\nsteps = {steps}"))
        simulate = (
            f"simulate {folder}/{name}.toml --shards {shards} --workers 1 --out {folder}/simulated-{name} --quiet"
        )
        assert main(simulate.split()) == 0
    offline = f"offline run {folder}/plan.toml --data heart --store file://{folder}/store --out file://{folder}/out"
    assert main([*offline.split(), "--workers", "1", "--quiet", "--work", str(folder / "work")]) == 0
    return folder


def _compared(capsys: pytest.CaptureFixture[str], *runs: object) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = main(["offline", "compare", *map(str, runs), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_offline_run_and_a_simulation_over_the_same_shards_came_to_the_same_bits(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = _compared(capsys, f"file://{here}/out", here / "simulated-plan")
    assert (code, found["equal"], found["parting"]) == (0, True, None)
    assert {one["what"].partition(".")[0] for one in found["begun"]} <= {"data", "software"}  # type: ignore[attr-defined]
    assert _compared(capsys, here / "out", here / "out")[1]["begun"] == []


def test_a_run_of_another_plan_parts_at_its_first_training_and_says_in_which_field_and_tensors(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = _compared(capsys, here / "simulated-plan", here / "simulated-longer")
    assert (code, found["equal"]) == (1, False)
    assert [one["what"] for one in found["begun"]] == ["plan.train.steps"]  # type: ignore[attr-defined]
    parting = found["parting"]
    assert isinstance(parting, dict)
    assert (parting["kind"], parting["round"], parting["why"]) == ("train", 1, "model")
    assert all(one["differing"] and not one["name"].startswith("preprocess.") for one in parting["tensors"])
    assert main(["offline", "compare", str(here / "simulated-plan"), str(here / "simulated-longer")]) == 1
    shown = capsys.readouterr().out
    assert "parted at step" in shown
    assert "plan.train.steps" in shown


def test_what_is_no_run_is_told_how_runs_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offline", "compare", str(here / "nothing"), str(here / "out")]) == 2
    assert "offline.which" in capsys.readouterr().err
    assert main(["offline", "compare", f"file://{here}/store", str(here / "out")]) == 4
