"""`aimass plan check` as a person and as a program meet it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from aimass.proto.commands import main
from tests.client.test_plan_check import PARTNERS, ROWS, TREES


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(ROWS)
    return path


@pytest.mark.parametrize(("budget", "status"), [((), 0), (("--budget", "3"), 0), (("--budget", "2"), 1)])
def test_the_exit_status_says_whether_the_plan_fits(
    plan: Path, capsys: pytest.CaptureFixture[str], budget: tuple[str, ...], status: int
) -> None:
    plan.write_text(PARTNERS)
    assert main(["plan", "check", str(plan), "--no-simulation", *budget]) == status
    shown = capsys.readouterr().out
    assert "for one partner, replace special" in shown
    assert ("does NOT fit" in shown) == (status == 1)


def test_trees_are_priced_and_not_tried(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(TREES.replace('"heart"', '"heart-trees"'))
    assert main(["plan", "check", str(plan), "--budget", "3"]) == 0
    shown = capsys.readouterr().out
    assert "10 such rounds do" not in shown
    assert "fits epsilon 3" in shown
    assert "tried     not" in shown


def test_a_slip_is_told_with_its_path_and_status_two(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(ROWS.replace("noise_multiplier = 4.0", "noise_multiplier = -1"))
    assert main(["plan", "check", str(plan)]) == 2
    assert "privacy.noise_multiplier" in capsys.readouterr().err


@pytest.mark.parametrize("epsilon", ["0", "-1", "nan", "51", "much"])
def test_a_budget_that_is_none_is_refused(plan: Path, epsilon: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "check", str(plan), f"--budget={epsilon}"])
    assert ended.value.code == 2


def test_a_program_reads_all_of_it_and_what_was_tried(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--rows", "200", "--seeds", "1", "--simulated", "2"]
    assert main(["plan", "check", str(plan), "--budget", "0.5", "--json", *few]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["fits"], told["elements"], told["rows"]) == (False, 1314, 200)
    assert told["spends"][0]["rounds_that_fit"] == 8
    assert len(told["options"]) == 3
    assert all(option["epsilon"] <= 0.5 and option["toml"] for option in told["options"])
    outcomes = {one["name"]: one["metrics"] for one in told["trial"]["outcomes"]}
    assert list(outcomes) == ["the plan", "without privacy", "option 1", "option 2", "option 3"]
    assert all(least <= mean <= most for each in outcomes.values() for mean, least, most in each.values())
    assert outcomes["without privacy"]["auc"][0] > 0.7


def test_noise_that_destroys_an_update_is_seen_in_its_trial_on_rows_of_ones_own(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(PARTNERS.replace("rounds = 20", "rounds = 3"))
    names = "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease"
    rows = [
        f"{20 + row % 60},{'Male' if row % 2 else 'Female'},non-anginal,120,200,true,normal,150,false,1,flat,0,"
        f"fixed defect,{'yes' if row % 60 > 30 else 'no'}"
        for row in range(300)
    ]
    (tmp_path / "public.csv").write_text("\n".join([names, *rows]) + "\n")
    tried = ["--data", str(tmp_path / "public.csv"), "--seeds", "2", "--rows", "60"]
    assert main(["plan", "check", str(plan), *tried]) == 0
    shown = capsys.readouterr().out
    assert "this plan destroys it" in shown
    assert "on public.csv: 4 partners of 60 training rows;" in shown


def test_what_would_take_too_long_is_not_begun_and_says_how_long(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(PARTNERS)
    assert main(["plan", "check", str(plan), "--rows", "100", "--limit", "0.01"]) == 0
    assert "it would take about" in capsys.readouterr().out


def test_without_the_servers_part_the_figures_are_told_and_the_trial_says_what_to_install(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(PARTNERS)
    monkeypatch.setitem(sys.modules, "aimass.server.trial", None)  # as where it is not installed
    assert main(["plan", "check", str(plan), "--no-simulation"]) == 0
    assert "for one partner, replace special" in capsys.readouterr().out
    assert main(["plan", "check", str(plan)]) == 9
    assert "aimass[client,server]" in capsys.readouterr().err
